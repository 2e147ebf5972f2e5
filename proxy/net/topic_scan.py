"""A topic read from end to end as the brokers hold it, for commands: nothing of it is opened."""

from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Final, NamedTuple

from kveil.protocol.kafka.api_table import ApiKey
from kveil.protocol.kafka.record_batch import MAGIC, read_header, split_batches
from kveil.proxy.config import Seal, TopicRule
from kveil.proxy.context import Shared
from kveil.proxy.errors import QuestionFailed
from kveil.proxy.net.own_client import OwnClient, own_client
from kveil.proxy.net.own_topic import NotThereYet
from kveil.proxy.policy import Policy

FETCH_BYTES: Final = 4 * 1024 * 1024
"""What is held at a time. A larger batch comes alone (KIP-74)."""
WAIT_MS: Final = 500
NOT_THERE_YET: Final = frozenset({3, 5, 6})
"""UNKNOWN_TOPIC_OR_PARTITION, LEADER_NOT_AVAILABLE, NOT_LEADER_OR_FOLLOWER: brokers hear of a new topic one by one."""

_CLIENT = -1
_MAGIC_AT = 16
_BY_NAME = 12
"""The last version of Fetch that names topics instead of giving their ids."""
_EARLIEST = -2
_LATEST = -1


class Stored(NamedTuple):
    """One batch as it is stored."""

    partition: int
    batch: memoryview


class Log(NamedTuple):
    """What a partition has now."""

    partition: int
    first: int
    """The offset at which it begins."""
    end: int
    """The one behind the last record."""
    batches: AsyncGenerator[memoryview, None]
    """Need not be read to the end. Raises QuestionFailed, or CorruptBatch behind the last batch that is one."""


Start = Callable[[int, int], int]
"""Where to begin, of a partition's first offset and its end."""


class Topic(NamedTuple):
    """A topic of the cluster."""

    name: str
    is_internal: bool


async def list_topics(shared: Shared) -> list[Topic]:
    """All topics that the login may see, by name.

    :raises QuestionFailed: the cluster can't be asked.
    """
    async with own_client(shared) as client:
        answer = await client.ask(ApiKey.METADATA, {"topics": None, "allow_auto_topic_creation": False})
    return sorted(Topic(str(topic.name), topic.is_internal) for topic in answer.topics)


class TopicScan:
    """One topic's partitions, as they are stored or `opened` as for a consumer."""

    def __init__(self, shared: Shared, topic: str, *, opened: bool = False) -> None:
        # For a client of plain topics records pass as they are.
        passing = shared.settings.model_copy(update={"topics": (TopicRule(match="*", seal=Seal.NONE),)})
        self._shared = shared if opened else replace(shared, policy=Policy(passing))
        self._topic = topic
        self._leaders: Mapping[int, list[int]] = {}

    @property
    def partitions(self) -> int:
        """How many there are."""
        return sum(map(len, self._leaders.values()))

    def leader_of(self, partition: int) -> int | None:
        """Return the node that leads a partition, None if there is no such partition."""
        return next((node for node, partitions in self._leaders.items() if partition in partitions), None)

    async def begin(self) -> None:
        """Find the partitions' leaders. Raises QuestionFailed."""
        async with own_client(self._shared) as client:
            wanted = {"topics": [{"topic_id": bytes(16), "name": self._topic}], "allow_auto_topic_creation": False}
            (topic,) = (await client.ask(ApiKey.METADATA, wanted)).topics
        self._check(topic.error_code)
        leaders = defaultdict(list)
        for partition in topic.partitions:
            if partition.leader_id < 0:
                raise NotThereYet(f"{self._topic}/{partition.partition_index} has no leader now")
            leaders[int(partition.leader_id)].append(partition.partition_index)
        self._leaders = {leader: sorted(found) for leader, found in sorted(leaders.items())}

    async def batches(self, start: int, only: int | None = None) -> AsyncGenerator[Stored, None]:
        """All batches with records at `start` or behind it there now, in order in each partition, or `only` one.

        :raises QuestionFailed: they can't be read.
        """
        async with aclosing(self.logs(lambda first, _: max(start, first), only)) as logs:
            async for log in logs:
                async with aclosing(log.batches) as batches:
                    async for batch in batches:
                        yield Stored(log.partition, batch)

    async def logs(self, start: Start, only: int | None = None) -> AsyncGenerator[Log, None]:
        """Each partition, or one alone, to be read from `start` on before the next is asked for.

        :raises QuestionFailed: they can't be read, or there is no such partition.
        """
        if only is not None and all(only not in partitions for partitions in self._leaders.values()):
            raise QuestionFailed(f"{self._topic} has no partition {only}: it has {self.partitions}")
        for leader, partitions in self._leaders.items():
            wanted = [partition for partition in partitions if only in (None, partition)]
            if not wanted:
                continue
            async with own_client(self._shared, leader) as client:
                for partition in wanted:
                    first, end = await self._ends(client, partition)
                    batches = self._read(client, partition, max(start(first, end), first), end)
                    yield Log(partition, first, end, batches)

    async def _read(self, client: OwnClient, partition: int, offset: int, end: int) -> AsyncGenerator[memoryview, None]:
        while offset < end:
            before = offset
            records = await self._fetch(client, partition, offset)
            if not records:
                return  # what stood up to the end was compacted away
            for batch in split_batches(records):
                following = _next_offset(batch)
                if following > offset:
                    yield batch
                    offset = following
            if offset == before:
                raise QuestionFailed(f"the broker gives no batch of {self._topic}/{partition} at offset {offset}")

    async def _ends(self, client: OwnClient, partition: int) -> tuple[int, int]:
        found = []
        for timestamp in (_EARLIEST, _LATEST):
            wanted = {"partition_index": partition, "current_leader_epoch": -1, "timestamp": timestamp}
            values = {"replica_id": _CLIENT, "topics": [{"name": self._topic, "partitions": [wanted]}]}
            answer = self._one(await client.ask(ApiKey.LIST_OFFSETS, values), "topics")
            found.append(int(answer.offset))
        return found[0], found[1]

    async def _fetch(self, client: OwnClient, partition: int, offset: int) -> bytes:
        wanted = {
            "partition": partition,
            "fetch_offset": offset,
            "partition_max_bytes": FETCH_BYTES,
            "current_leader_epoch": -1,
            "last_fetched_epoch": -1,
            "log_start_offset": -1,
        }
        values = {
            "replica_id": _CLIENT,
            "max_wait": WAIT_MS,
            "min_bytes": 1,
            "max_bytes": FETCH_BYTES,
            "session_epoch": -1,
            "topics": [{"topic": self._topic, "partitions": [wanted]}],
        }
        answer = self._one(await client.ask(ApiKey.FETCH, values, most=_BY_NAME), "responses")
        return bytes(answer.records or b"")

    def _one(self, answer: Any, name: str) -> Any:
        """The answer's one partition. Raises QuestionFailed."""
        partitions = [partition for topic in getattr(answer, name) for partition in topic.partitions]
        if len(partitions) != 1:
            raise QuestionFailed("the broker's answer leaves the partition out")
        self._check(partitions[0].error_code)
        return partitions[0]

    def _check(self, code: Any) -> None:
        if code:
            kind = NotThereYet if int(code) in NOT_THERE_YET else QuestionFailed
            raise kind(f"{self._topic}: the broker answered {code.name}")


def _next_offset(batch: memoryview) -> int:
    """The offset behind a batch. One of an old format has its last record's in front, and no header to read."""
    if batch[_MAGIC_AT] != MAGIC:
        return int.from_bytes(batch[:8], "big", signed=True) + 1
    return read_header(batch).next_offset
