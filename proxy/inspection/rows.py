"""Stored batches as rows, one for each envelope, for people: nothing is opened, and nothing is refused.

What a reader would refuse is a row that says why, with as much of the envelope as holds. Nothing in a row is
authenticated: it is the broker's word.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from kveil.protocol.envelope import registry
from kveil.protocol.envelope.batch import SealedBatch, peek
from kveil.protocol.envelope.crypto import TAG_LENGTH
from kveil.protocol.envelope.errors import EnvelopeError, NotSealed, OtherMode, Reason, Unopenable
from kveil.protocol.envelope.origin import find_envelope
from kveil.protocol.envelope.outline import Outline, read_outline, version_of
from kveil.protocol.envelope.record_loops import PREFIX as RECORD_PREFIX
from kveil.protocol.envelope.sealed_batch import PREFIX_LENGTH
from kveil.protocol.envelope.sealed_records import peek_section, section_of
from kveil.protocol.kafka.errors import BatchRefused, InvalidRecord
from kveil.protocol.kafka.record_batch import (
    HEADER_LENGTH,
    MAGIC,
    BatchHeader,
    check_control_batch,
    check_empty_batch,
    is_checksum_right,
    read_header,
)
from kveil.protocol.kafka.records import NO_HEADERS, Record, read_headers, read_records, split_records

_MAGIC_AT = 16
_STUB = (None, None, NO_HEADERS)
"""Key, value and headers of what stands behind an envelope of batch mode."""

# Kinds
SEALED: Final = "sealed"
PLAIN: Final = "plain"
CONTROL: Final = "control"
EMPTY: Final = "empty"
OTHER: Final = "other format"
UNREADABLE: Final = "unreadable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """An envelope, or what stands in the place of one."""

    partition: int
    first_offset: int
    last_offset: int
    batch_offset: int
    """The first offset of its batch."""
    kind: str
    records: int
    timestamp: int
    """In ms since 1970: a batch's latest, or the record's own."""
    stored_bytes: int
    """Of the batch; in record mode of the record, as it is before the batch is compressed."""
    payload_bytes: int | None = None
    """What the client's own batch, or record, takes. None where that can't be told."""
    codec: int = 0
    """Of the batch as the broker has it."""
    is_transactional: bool = False
    version: int | None = None
    outline: Outline | None = None
    problem: str | None = None
    """Why a reader refuses it, as far as that shows without a key."""

    @property
    def overhead_bytes(self) -> int | None:
        """What sealing has added."""
        return None if self.payload_bytes is None else self.stored_bytes - self.payload_bytes


def rows_of(partition: int, view: memoryview) -> Iterator[Row]:
    """Yield the rows of one whole fetched batch, one at least."""
    if view[_MAGIC_AT] != MAGIC:
        yield _other(partition, view)
        return
    header = read_header(view)
    row = Row(
        partition=partition,
        first_offset=header.base_offset,
        last_offset=header.last_offset,
        batch_offset=header.base_offset,
        kind=UNREADABLE,
        records=header.record_count,
        timestamp=header.max_timestamp,
        stored_bytes=len(view),
        codec=header.codec,
        is_transactional=header.is_transactional,
    )
    damage = None if is_checksum_right(view, header) else "checksum"
    for one in _rows(row, view, header):
        yield one if damage is None or one.problem else replace(one, problem=damage)


def _other(partition: int, view: memoryview) -> Row:
    offset = int.from_bytes(view[:8], "big", signed=True)
    return Row(
        partition=partition,
        first_offset=offset,
        last_offset=offset,
        batch_offset=offset,
        kind=OTHER,
        records=1,
        timestamp=-1,
        stored_bytes=len(view),
        problem=f"magic {view[_MAGIC_AT]}, which can't be sealed",
    )


def _rows(row: Row, view: memoryview, header: BatchHeader) -> Iterator[Row]:
    try:
        if header.record_count == 0:
            check_empty_batch(view)
            yield replace(row, kind=EMPTY, payload_bytes=row.stored_bytes)
        elif header.is_control:
            check_control_batch(view)
            yield replace(row, kind=CONTROL, payload_bytes=row.stored_bytes)
        else:
            yield _batch_row(row, peek(view, header))
    except (OtherMode, NotSealed):  # the first record is plain: are all of them?
        yield from _record_rows(row, view, header)
    except Unopenable as error:
        yield from _refused(row, view, header, error.reason)
    except BatchRefused as error:
        yield replace(row, problem=str(error))


def _batch_row(row: Row, sealed: SealedBatch) -> Row:
    return replace(
        row,
        kind=SEALED,
        payload_bytes=HEADER_LENGTH + sealed.plaintext_length - PREFIX_LENGTH,
        version=registry.VERSION,
        outline=read_outline(sealed.envelope_header + sealed.extensions),
    )


def _refused(row: Row, view: memoryview, header: BatchHeader, reason: str) -> Iterator[Row]:
    """A batch with an envelope in front that isn't good: of batch mode, or the first one of record mode."""
    try:
        (_, _, _, value, headers), *others = _records(section_of(view, header.codec), header)
    except (EnvelopeError, BatchRefused, ValueError):
        yield replace(row, problem=reason)
        return
    if any(record[2:] != _STUB for record in others):
        yield from _record_rows(row, view, header)
        return
    front = _front(value, headers)
    yield replace(row, problem=reason, version=version_of(front), outline=read_outline(front))


# Record by record ----------------------------------------------------------------------------------------------------


def _records(section: bytes, header: BatchHeader) -> Iterator[Record]:
    return read_records(section, header.record_count, header.last_offset_delta)


def _record_rows(row: Row, view: memoryview, header: BatchHeader) -> Iterator[Row]:
    try:
        section = section_of(view, header.codec)
        found = [_is_plain(record) for record in _records(section, header)]
    except Unopenable as error:
        yield replace(row, problem=error.reason)
        return
    except InvalidRecord:
        yield replace(row, problem=Reason.RECORDS)
        return
    if all(found):
        yield replace(row, kind=PLAIN, payload_bytes=row.stored_bytes)
        return
    for record, raw in zip(_records(section, header), split_records(section), strict=True):
        yield _record_row(row, record, raw, header)


def _is_plain(record: Record) -> bool:
    """Whether it has no envelope at all. Raises InvalidRecord."""
    _, _, _, value, headers = record
    try:
        envelope, _ = find_envelope(value, read_headers(headers)[0])
    except Unopenable:
        return False
    return not envelope.startswith(registry.MAGIC)


def _record_row(row: Row, record: Record, raw: bytes, header: BatchHeader) -> Row:
    timestamp_delta, offset_delta, _, value, headers = record
    offset = header.base_offset + offset_delta
    row = replace(
        row,
        first_offset=offset,
        last_offset=offset,
        records=1,
        timestamp=row.timestamp if header.is_log_append_time else header.base_timestamp + timestamp_delta,
        stored_bytes=len(raw),
    )
    try:
        ((origin, _, _, wire_key, envelope, _),) = peek_section(raw, header._replace(record_count=1)).records
    except NotSealed:
        return replace(row, kind=PLAIN, payload_bytes=len(raw), problem=Reason.MIXED)
    except (Unopenable, InvalidRecord) as error:
        front = _front(value, headers)
        return replace(row, problem=str(error), version=version_of(front), outline=read_outline(front))
    # The client's own headers are inside. A tombstone's envelope is one.
    added = origin.ciphertext_at + RECORD_PREFIX.size + TAG_LENGTH + len(headers)
    added -= len(envelope) if value is None else 0
    if origin.says.hiding_key_id is not None:
        added += len(wire_key or b"")  # the client's own is inside
    return replace(
        row, kind=SEALED, payload_bytes=len(raw) - added, version=registry.VERSION, outline=read_outline(envelope)
    )


def _front(value: bytes | None, headers: bytes) -> bytes:
    """What should be an envelope, though it stands where it must not."""
    try:
        return find_envelope(value, read_headers(headers)[0])[0]
    except (Unopenable, InvalidRecord):
        return value or b""
