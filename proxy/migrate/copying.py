"""The copy itself: fetch, produce, commit, and whatever goes wrong, begin anew from what was committed."""

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Protocol

from kveil.proxy.context import Shared
from kveil.proxy.log import get_logger
from kveil.proxy.migrate.cluster import EARLIEST, LATEST, Cluster, Topic, connected
from kveil.proxy.migrate.errors import MigrateError, MigrateRefused, TooLarge, TryAgain
from kveil.proxy.migrate.producing import Transactions, begin
from kveil.proxy.migrate.reading import ANSWER_BYTES, Fetched, Reader
from kveil.proxy.migrate.records import gathered
from kveil.proxy.migrate.state import PartitionState, name_of, read_states

_log = get_logger(__name__)

COMMIT_SECONDS: Final = 1.0
COMMIT_BYTES: Final = 64 * 1024 * 1024
BATCH_BYTES: Final = 512 * 1024
"""Half of what topics take by default, so that sealing finds room."""
PATIENCE_SECONDS: Final = 120.0
"""How long it is tried again without getting on: a broker that restarts is back by then."""
_PAUSE_SECONDS: Final = 0.25
_LONGEST_PAUSE_SECONDS: Final = 5.0


class Watcher(Protocol):
    """Who is told how it goes."""

    def began(self, states: Mapping[int, PartitionState], ends: Mapping[int, int]) -> None:
        """The copy begins, or goes on, from these states; offsets up to the ends."""

    def copied(self, states: Mapping[int, PartitionState], stored_bytes: int) -> None:
        """So much more was committed."""

    def troubled(self, reason: str) -> None:
        """It begins anew."""


@dataclass(slots=True, kw_only=True)
class Copy:
    """One copy from SOURCE to DEST."""

    shared: Shared
    source: str
    dest: str
    watcher: Watcher
    rate_limit: float | None = None
    """Bytes a second."""
    follow: bool = False
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    states: dict[int, PartitionState] = field(default_factory=dict)
    """What is committed."""
    ends: dict[int, int] = field(default_factory=dict)
    """The source's end offsets when it began: as far as it goes."""
    _batch_bytes: int = BATCH_BYTES

    @property
    def group(self) -> str:
        """The group that the offsets are committed for, and the transactional id."""
        return name_of(self.source, self.dest)

    @property
    def is_whole(self) -> bool:
        """Whether all was copied that was there at the beginning."""
        return bool(self.ends) and all(self.states[each].position >= end for each, end in self.ends.items())

    async def run(self) -> None:
        """Copy up to the end, or until `stopping` is set.

        :raises MigrateError: it can't go on.
        """
        pause, patient_until = _PAUSE_SECONDS, time.monotonic() + PATIENCE_SECONDS
        while True:
            before = self._records
            try:
                async with connected(self.shared) as cluster:
                    await self._copy(cluster)
            except TooLarge as error:
                if self._batch_bytes == 1:
                    raise MigrateError(
                        f"{error}; a single record is over the limit: `kveil prepare {self.dest}` makes room for what "
                        "sealing adds"
                    ) from error
                self._batch_bytes = 1 if self._batch_bytes < _SMALLEST_BATCH else self._batch_bytes // 2
            except TryAgain as error:
                if self._records > before:
                    pause, patient_until = _PAUSE_SECONDS, time.monotonic() + PATIENCE_SECONDS
                if time.monotonic() > patient_until or self.stopping.is_set():
                    raise MigrateError(f"{error}; what is copied stays: the same command goes on from there") from error
                self.watcher.troubled(str(error))
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            else:
                return

    @property
    def _records(self) -> int:
        return sum(state.records for state in self.states.values())

    async def _copy(self, cluster: Cluster) -> None:
        source, dest = await _topic(cluster, self.source), await _topic(cluster, self.dest)
        # Ends an earlier one's open transaction: after this, what is committed stays.
        producer = await begin(cluster, self.group)
        transactions = Transactions(cluster, producer, dest, self.group)
        self.states = await self._begun(cluster, source, dest, transactions)
        if not self.ends:
            self.ends = await cluster.offsets(source, LATEST)
        self.watcher.began(self.states, self.ends)
        await _Round(self, cluster, source, transactions).run()

    async def _begun(
        self, cluster: Cluster, source: Topic, dest: Topic, transactions: Transactions
    ) -> dict[int, PartitionState]:
        """Return where to go on; where nothing is begun, begin."""
        producer_id = transactions.producer.producer_id
        found = await found_states(cluster, source, dest)
        if found is not None:
            return {partition: state.with_producer(producer_id) for partition, state in found.items()}
        starts, firsts = await cluster.offsets(source, EARLIEST), await cluster.offsets(dest, LATEST)
        states = {
            partition: PartitionState(
                source_id=source.topic_id,
                dest_id=dest.topic_id,
                start=start,
                first=firsts[partition],
                position=start,
                producers=(producer_id,),
            )
            for partition, start in starts.items()
        }
        await transactions.commit(source, {each: state.committed for each, state in states.items()})
        return states

    @property
    def batch_bytes(self) -> int:
        """How large batches are made."""
        return self._batch_bytes


_SMALLEST_BATCH: Final = 1024


async def found_states(cluster: Cluster, source: Topic, dest: Topic) -> dict[int, PartitionState] | None:
    """Return how far a copy is, None if there is none yet and the destination is empty.

    :raises MigrateRefused: the destination holds what this copy hasn't put there.
    """
    group = name_of(source.name, dest.name)
    states = read_states(await cluster.committed(group, source), group)
    ids = (source.topic_id, dest.topic_id)
    if states and all((state.source_id, state.dest_id) == ids for state in states.values()):
        if states.keys() == source.leaders.keys():
            return states
        raise MigrateRefused(
            f"the offsets of {group} are there for {len(states)} of {len(source.leaders)} partitions: they have "
            f"expired, or {source.name} got more; begin with a new destination"
        )
    if await cluster.offsets(dest, EARLIEST) == await cluster.offsets(dest, LATEST, committed=False):
        return None
    raise MigrateRefused(
        f"{dest.name} is not empty, and no copy of {source.name} has begun there: name a new topic, which is created"
    )


async def _topic(cluster: Cluster, name: str) -> Topic:
    found = await cluster.find_topic(name)
    if found is None:
        raise TryAgain(f"there is no topic {name}")
    return found


class _Round:
    """Fetches while it produces, and commits every so often."""

    def __init__(self, copy: Copy, cluster: Cluster, source: Topic, transactions: Transactions) -> None:
        self._copy = copy
        self._cluster = cluster
        self._source = source
        self._transactions = transactions
        most = ANSWER_BYTES if copy.rate_limit is None else max(16 * 1024, min(ANSWER_BYTES, int(copy.rate_limit / 4)))
        self._reader = Reader(cluster, source, most_bytes=most)
        self._next = dict(copy.states)
        """What will be committed."""
        self._bytes = 0
        self._committed_at = time.monotonic()
        self._paced_until = self._came_at = time.monotonic()

    async def run(self) -> None:
        fetching = asyncio.create_task(self._fetch())
        try:
            while (fetched := await self._ready(fetching)) is not None:
                for partition, each in fetched.items():
                    count = sum(len(batch.records) for batch in each.batches)
                    self._next[partition] = self._next[partition].moved(each.position, count)
                    self._bytes += sum(batch.stored_bytes for batch in each.batches)
                fetching = asyncio.create_task(self._fetch())
                size = self._copy.batch_bytes
                await self._transactions.produce({at: gathered(each.batches, size) for at, each in fetched.items()})
                if self._bytes >= COMMIT_BYTES or time.monotonic() - self._committed_at >= COMMIT_SECONDS:
                    await self._commit()
            await self._commit()
        finally:
            fetching.cancel()
            await asyncio.gather(fetching, return_exceptions=True)

    async def _ready(self, fetching: asyncio.Task[dict[int, Fetched] | None]) -> dict[int, Fetched] | None:
        """Return what was fetched. Where a rate limit makes that take long, no transaction is open meanwhile."""
        if not (await asyncio.wait({fetching}, timeout=COMMIT_SECONDS))[0]:
            await self._commit()
        return await fetching

    async def _fetch(self) -> dict[int, Fetched] | None:
        """Return what follows, which may be nothing for now; None at the end."""
        copy = self._copy
        ends = dict.fromkeys(copy.ends, _FOREVER) if copy.follow else copy.ends
        positions = {partition: state.position for partition, state in self._next.items()}
        if copy.stopping.is_set() or all(positions[each] >= ends[each] for each in positions):
            return None
        fetched = await self._reader.fetch(positions, ends)
        if any(each.position > positions[at] for at, each in fetched.items()):
            self._came_at = time.monotonic()
        elif not copy.follow and time.monotonic() - self._came_at > PATIENCE_SECONDS:
            raise TryAgain(f"nothing came from {copy.source} for {PATIENCE_SECONDS:g} s, though its end isn't reached")
        await self._pace(fetched)
        return fetched

    async def _pace(self, fetched: Mapping[int, Fetched]) -> None:
        if self._copy.rate_limit is None:
            return
        size = sum(batch.stored_bytes for each in fetched.values() for batch in each.batches)
        self._paced_until = max(self._paced_until, time.monotonic()) + size / self._copy.rate_limit
        wait = self._paced_until - time.monotonic()
        if wait > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._copy.stopping.wait(), wait)

    async def _commit(self) -> None:
        if self._next != self._copy.states:
            states = dict(self._next)
            await self._transactions.commit(self._source, {each: one.committed for each, one in states.items()})
            self._copy.states = states
            self._copy.watcher.copied(states, self._bytes)
        self._bytes = 0
        self._committed_at = time.monotonic()


_FOREVER: Final = 2**63 - 1
