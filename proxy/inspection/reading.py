"""A topic's rows, from the brokers: so many of each partition."""

from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from itertools import islice

from kveil.protocol.kafka.errors import BatchRefused
from kveil.proxy.inspection.opening import Opened, Opener
from kveil.proxy.inspection.rows import CONTROL, EMPTY, OTHER, Row, rows_of
from kveil.proxy.net.topic_scan import Log, Start, TopicScan

Tell = Callable[[int], None]
"""Hears of each batch that was read: of which partition."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be shown."""

    partition: int | None
    """None for all of them."""
    start: Start
    limit: int
    """Rows of each partition."""


@dataclass(slots=True, kw_only=True)
class Part:
    """What one partition showed."""

    partition: int
    first: int
    end: int
    """The offset behind the last record of the partition."""
    rows: list[tuple[Row, Opened | None]] = field(default_factory=list)
    """With what each holds, if it was to be opened."""
    batches: int = 0
    batch_bytes: int = 0
    """Of the batches that the rows are from, as the broker has them."""
    goes_on_at: int | None = None
    """The offset of the first row that isn't shown, None if all are."""
    problem: str | None = None
    """Why it couldn't be read to the end."""


async def parts_of(scan: TopicScan, wanted: Wanted, opener: Opener | None, tell: Tell) -> list[Part]:
    """Return the partitions in order. Raises QuestionFailed."""
    async with aclosing(scan.logs(wanted.start, wanted.partition)) as logs:
        found = [await _part(log, wanted, opener, tell) async for log in logs]
    return sorted(found, key=lambda part: part.partition)


async def _part(log: Log, wanted: Wanted, opener: Opener | None, tell: Tell) -> Part:
    part = Part(partition=log.partition, first=log.first, end=log.end)
    start = wanted.start(log.first, log.end)
    try:
        async with aclosing(log.batches) as batches:
            async for batch in batches:
                tell(log.partition)
                left = wanted.limit - len(part.rows)
                found = (row for row in rows_of(log.partition, batch) if row.last_offset >= start)
                rows = list(islice(found, left + 1))  # one more, which says where it goes on
                await _add(part, rows[:left], batch, opener, start)
                if len(rows) > left:
                    part.goes_on_at = rows[left].first_offset
                    break
    except BatchRefused as error:
        part.problem = f"what the broker gives can't be told apart: {error}"
    return part


async def _add(part: Part, rows: list[Row], batch: memoryview, opener: Opener | None, start: int) -> None:
    if not rows:
        return
    opened = None if opener is None else await opener.open(part.partition, batch)
    part.batches += 1
    part.batch_bytes += len(batch)
    for row in rows:
        part.rows.append(
            (row, None if opened is None or row.kind in {CONTROL, EMPTY, OTHER} else _share(opened, row, start))
        )


def _share(opened: Opened, row: Row, start: int) -> Opened:
    """What of a batch is the row's."""
    first = max(row.first_offset, start)
    return opened._replace(records=[each for each in opened.records if first <= each[0] <= row.last_offset])
