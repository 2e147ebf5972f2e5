"""Both topics read again and compared, and from that, which offset became which.

Records are compared one by one in their order, in each partition. Where the log cleaner may have been at work, which
drops records that a later one of their key replaces, the last record of each key counts instead.
"""

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from kveil.proxy.migrate.cluster import EARLIEST, LATEST, Cluster, Topic
from kveil.proxy.migrate.reading import Reader
from kveil.proxy.migrate.records import CopiedRecord
from kveil.proxy.migrate.state import PartitionState


@dataclass(slots=True)
class Run:
    """Records whose offsets follow each other in both topics."""

    source: int
    dest: int
    count: int


@dataclass(slots=True, kw_only=True)
class Comparison:
    """What was found in one partition."""

    partition: int
    records: int = 0
    digest: str = ""
    dest_records: int = 0
    dest_digest: str = ""
    difference: str | None = None
    """Where the first one is; None if they are the same."""
    gone: int = 0
    """Records at the beginning that one of the two topics has lost to its retention: not compared."""
    later: int = 0
    """Records behind the copied ones, which somebody else has produced."""
    runs: list[Run] = field(default_factory=list)
    source_end: int = 0
    dest_end: int = 0
    """The destination's offset that stands for `source_end`: behind the last copied record."""

    @property
    def is_same(self) -> bool:
        """Whether nothing differs."""
        return self.difference is None

    def note(self, source: int, dest: int) -> None:
        """Note that an offset became another."""
        last = self.runs[-1] if self.runs else None
        if last is not None and (source, dest) == (last.source + last.count, last.dest + last.count):
            last.count += 1
        else:
            self.runs.append(Run(source, dest, 1))
        self.dest_end = dest + 1


Placed = tuple[int, CopiedRecord, int]
"""Offset, record, producer id."""
Producers = tuple[int, ...]
"""The ids that the copy had: other records are others'."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparer:
    """Compares partition by partition."""

    cluster: Cluster
    source: Topic
    dest: Topic
    compacted: bool
    """Whether the log cleaner may have dropped records of either topic."""

    async def compare(self, partition: int, state: PartitionState) -> Comparison:
        """Compare what was copied of one partition.

        :raises MigrateError: it can't be read.
        """
        found = Comparison(partition=partition, source_end=state.position)
        starts = await self.cluster.offsets(self.source, EARLIEST), await self.cluster.offsets(self.dest, EARLIEST)
        ends = await self.cluster.offsets(self.dest, LATEST)
        source_start, dest_start = max(starts[0][partition], state.start), max(starts[1][partition], state.first)
        found.dest_end = dest_start
        one = self._records(self.source, partition, source_start, state.position)
        other = self._records(self.dest, partition, dest_start, ends[partition])
        if self.compacted:
            await self._compare_last(found, one, other, state.producers)
            return found
        if (source_start, dest_start) != (state.start, state.first):
            counts = [
                await _count(self._records(self.source, partition, source_start, state.position)),
                await _count(self._records(self.dest, partition, dest_start, ends[partition]), state.producers),
            ]
            await _skip(one, counts[0] - min(counts))
            await _skip(other, counts[1] - min(counts))
            found.gone = state.records - min(counts)
        await self._compare_each(found, one, other, state.producers)
        return found

    async def _compare_each(
        self, found: Comparison, one: AsyncIterator[Placed], other: AsyncIterator[Placed], ours: Producers
    ) -> None:
        digests = hashlib.sha256(), hashlib.sha256()
        async for offset, record, _ in one:
            found.records += 1
            digests[0].update(record.digested())
            placed = await anext(other, None)
            if placed is None:
                found.difference = found.difference or f"offset {offset} of {self.source.name} is missing"
                continue
            found.dest_records += 1
            digests[1].update(placed[1].digested())
            if found.difference is not None:
                continue
            if placed[1] != record:
                what = _difference(record, placed[1])
                found.difference = (
                    f"offset {offset} of {self.source.name} and {placed[0]} of {self.dest.name} differ in {what}"
                )
            else:
                found.note(offset, placed[0])
        async for offset, record, producer_id in other:
            if producer_id not in ours:
                found.later += 1
                continue
            found.dest_records += 1
            digests[1].update(record.digested())
            found.difference = found.difference or f"offset {offset} of {self.dest.name} is one too many"
        found.digest, found.dest_digest = (digest.hexdigest() for digest in digests)

    async def _compare_last(
        self, found: Comparison, one: AsyncIterator[Placed], other: AsyncIterator[Placed], ours: Producers
    ) -> None:
        """Compare the last record of each key; a tombstone is as good as none."""
        source, dest = _LastOfKeys(), _LastOfKeys()
        async for offset, record, _ in one:
            source.add(offset, record)
        async for offset, record, producer_id in other:
            if producer_id in ours:
                dest.add(offset, record)
            else:
                found.later += 1
        source.note_matches(dest, found)
        found.records, found.dest_records = len(source.last), len(dest.last)
        found.digest, found.dest_digest = source.digest(), dest.digest()
        wrong = [
            min(each[0] for each in (source.last.get(key), dest.last.get(key)) if each is not None)
            for key in source.last.keys() | dest.last.keys()
            if (source.last.get(key) or _NONE)[1] != (dest.last.get(key) or _NONE)[1]
        ]
        if wrong:
            found.difference = f"the last records of {len(wrong)} keys differ, the first at offset {min(wrong)}"

    async def _records(self, topic: Topic, partition: int, start: int, end: int) -> AsyncIterator[Placed]:
        async for batch in Reader(self.cluster, topic).read(partition, start, end):
            for offset, record in batch.records:
                yield offset, record, batch.producer_id


_NONE = (0, b"")


class _LastOfKeys:
    """Digests of records, and the last of each key: about 300 bytes a record, for topics that are compacted."""

    def __init__(self) -> None:
        self.last: dict[bytes, tuple[int, bytes]] = {}
        self.all: list[tuple[int, bytes]] = []

    def add(self, offset: int, record: CopiedRecord) -> None:
        digest = hashlib.sha256(record.digested()).digest()
        self.all.append((offset, digest))
        key = hashlib.sha256(record.key or b"").digest()
        if record.value is None:
            self.last.pop(key, None)
        else:
            self.last[key] = offset, digest

    def digest(self) -> str:
        total = hashlib.sha256()
        for key in sorted(self.last):
            total.update(key + self.last[key][1])
        return total.hexdigest()

    def note_matches(self, other: "_LastOfKeys", found: Comparison) -> None:
        """Note the offsets of records that are in both, in their order."""
        places: dict[bytes, list[int]] = {}
        for offset, digest in reversed(other.all):
            places.setdefault(digest, []).append(offset)
        behind = -1
        for offset, digest in self.all:
            at = places.get(digest, [])
            while at and at[-1] <= behind:
                at.pop()
            if at:
                behind = at.pop()
                found.note(offset, behind)


def _difference(one: CopiedRecord, other: CopiedRecord) -> str:
    return ", ".join(name for name, a, b in zip(CopiedRecord._fields, one, other, strict=True) if a != b)


async def _count(records: AsyncIterator[Placed], ours: Producers | None = None) -> int:
    count = 0
    async for each in records:
        count += ours is None or each[2] in ours
    return count


async def _skip(records: AsyncIterator[Placed], count: int) -> None:
    for _ in range(count):
        await anext(records)
