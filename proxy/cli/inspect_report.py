"""What `kveil inspect` shows: a table, or JSON."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from kveil.protocol.envelope.header import Extensions
from kveil.proxy.cli.inspect_contents import opened_as_json, opened_lines
from kveil.proxy.cli.scanning import plainly, provider_name
from kveil.proxy.inspection.opening import Opened
from kveil.proxy.inspection.reading import Part
from kveil.proxy.inspection.rows import SEALED, Row

KID_SHOWN: Final = 12
"""Hexadecimal digits in the table. JSON has all."""

_CODECS: Final = ("none", "gzip", "snappy", "lz4", "zstd")
_TITLES: Final = (
    *("partition", "offsets", "records", "mode", "version", "suite", "kid", "key"),
    *("stored", "payload", "overhead", "notes"),
)
_NUMBERS: Final = frozenset({"partition", "records", "version", "suite", "stored", "payload", "overhead"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was found."""

    topic: str
    decided: str
    """What the rules say of the topic."""
    partitions: int
    parts: Sequence[Part]
    limit: int

    @property
    def rows(self) -> list[tuple[Row, Opened | None]]:
        """Of all partitions."""
        return [each for part in self.parts for each in part.rows]

    @property
    def is_good(self) -> bool:
        """Whether nothing is damaged, and all opened that was to be."""
        damaged = any(row.problem or (opened and opened.problem) for row, opened in self.rows)
        return not damaged and not any(part.problem for part in self.parts)

    @property
    def total(self) -> dict[str, int]:
        """The sums over all that is shown."""
        rows = [row for row, _ in self.rows]
        return {
            "batches": sum(part.batches for part in self.parts),
            "batch_bytes": sum(part.batch_bytes for part in self.parts),
            "envelopes": sum(row.kind == SEALED for row in rows),
            "records": sum(row.records for row in rows),
            "stored_bytes": sum(row.stored_bytes for row in rows),
            "payload_bytes": sum(row.payload_bytes or 0 for row in rows),
            "overhead_bytes": sum(row.overhead_bytes or 0 for row in rows),
            "problems": sum(row.problem is not None for row in rows),
        }

    def as_json(self) -> dict[str, Any]:
        """The whole of it, for machines."""
        parts = [
            {
                "partition": part.partition,
                "first_offset": part.first,
                "end_offset": part.end,
                "goes_on_at": part.goes_on_at,
                "problem": part.problem,
            }
            for part in self.parts
        ]
        rows = [_row_as_json(row) | opened_as_json(opened, self.limit) for row, opened in self.rows]
        return {
            "topic": self.topic,
            "decided": self.decided,
            "partitions": parts,
            "envelopes": rows,
            "total": self.total,
        }

    def lines(self) -> Iterator[str]:
        """The same for people."""
        yield f"{self.decided}; {self.partitions} partitions"
        rows = self.rows
        table = list(_aligned([_TITLES, *(_cells(row) for row, _ in rows)])) if rows else ["nothing is there"]
        yield table[0]
        for line, (_, opened) in zip(table[1:], rows, strict=True):
            yield line
            yield from opened_lines(opened, self.limit)
        yield self._total_line()
        for part in self.parts:
            if part.problem is not None:
                yield f"partition {part.partition}: {part.problem}"
            if part.goes_on_at is not None:
                more = f"--partition {part.partition} --offset {part.goes_on_at}"
                yield f"partition {part.partition} goes on up to offset {part.end}: {more}, or a higher --limit"

    def _total_line(self) -> str:
        total = self.total
        payload, overhead = total["payload_bytes"], total["overhead_bytes"]
        share = f" ({overhead / payload:.1%})" if payload else ""
        damaged = f"; {total['problems']} damaged or refused" if total["problems"] else ""
        return (
            f"{total['envelopes']} envelopes, {total['records']} records: {total['stored_bytes']} bytes stored, "
            f"{payload} of payload, {overhead} of overhead{share}; {total['batches']} batches, which take "
            f"{total['batch_bytes']} bytes{damaged}"
        )


# Rows ----------------------------------------------------------------------------------------------------------------


def _row_as_json(row: Row) -> dict[str, Any]:
    outline = row.outline
    says = outline.says if outline else None
    return {
        "partition": row.partition,
        "first_offset": row.first_offset,
        "last_offset": row.last_offset,
        "batch_offset": row.batch_offset,
        "timestamp": row.timestamp,
        "kind": row.kind,
        "records": row.records,
        "mode": outline.mode_name if outline else None,
        "version": row.version,
        "suite": outline.suite_name if outline else None,
        "kid": outline.kid.hex() if outline else None,
        "key": _key_as_json(says) if says else None,
        "hiding_key_id": says.hiding_key_id.hex() if says and says.hiding_key_id else None,
        "origin_partition": says.origin_partition if says else None,
        "codec": _codec(row),
        "transactional": row.is_transactional,
        "stored_bytes": row.stored_bytes,
        "payload_bytes": row.payload_bytes,
        "overhead_bytes": row.overhead_bytes,
        "problem": row.problem,
    }


def _key_as_json(says: Extensions) -> dict[str, Any]:
    block = says.block
    return {
        "provider": provider_name(block.provider),
        "name": block.name,
        "version": block.version,
        "mechanism": block.mechanism,
        "wrapped_bytes": len(block.wrapped),
    }


def _cells(row: Row) -> tuple[str, ...]:
    outline = row.outline
    offsets = str(row.first_offset) if row.first_offset == row.last_offset else f"{row.first_offset}-{row.last_offset}"
    mode = outline.mode_name if outline and row.kind == SEALED else row.kind.upper()
    sizes = (row.stored_bytes, row.payload_bytes, row.overhead_bytes)
    return (
        *(str(row.partition), offsets, str(row.records), mode, _or_dash(row.version)),
        *(_or_dash(outline and outline.suite), outline.kid.hex()[:KID_SHOWN] if outline else "-"),
        _key(outline.says) if outline and outline.says else "-",
        *map(_or_dash, sizes),
        ", ".join(_notes(row)),
    )


def _or_dash(number: int | None) -> str:
    return "-" if number is None else str(number)


def _key(says: Extensions) -> str:
    version = f" version {plainly(says.block.version)}" if says.block.version else ""
    return f"{provider_name(says.block.provider)}:{plainly(says.block.name)}{version}"


def _notes(row: Row) -> Iterator[str]:
    if row.problem is not None:
        yield f"REFUSED: {row.problem}"
    if row.codec:
        yield _codec(row)
    if row.is_transactional:
        yield "in a transaction"
    says = row.outline.says if row.outline else None
    if says and says.hiding_key_id is not None:
        yield "key hidden"
    if says and says.origin_partition is not None:
        yield f"sealed for partition {says.origin_partition}"


def _codec(row: Row) -> str:
    return _CODECS[row.codec] if row.codec < len(_CODECS) else f"codec {row.codec}"


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = zip(_TITLES, row, widths, strict=True)
        yield "  ".join(
            cell.rjust(width) if title in _NUMBERS else cell.ljust(width) for title, cell, width in cells
        ).rstrip()
