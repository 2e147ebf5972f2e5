"""The cluster as the copy sees it: one connection to each broker, leaders, coordinators, offsets."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from kveil.protocol.kafka.api_table import API_TABLE, ApiKey
from kveil.protocol.kafka.errors import ProtocolError
from kveil.proxy.context import Shared
from kveil.proxy.errors import QuestionFailed
from kveil.proxy.migrate.errors import MigrateError, TryAgain
from kveil.proxy.net.own_client import OwnClient, own_client

EARLIEST: Final = -2
LATEST: Final = -1
READ_COMMITTED: Final = 1
GROUP: Final = 0
TRANSACTION: Final = 1
UNKNOWN_TOPIC: Final = 3

_FINAL: Final[Mapping[int, str]] = {
    29: "the cluster doesn't let this login use the topic",
    30: "the cluster doesn't let this login use the group",
    31: "the cluster doesn't let this login do it",
    32: "the topic doesn't take records this old or this far ahead: see its message.timestamp.before.max.ms and "
    ".after.max.ms",
    44: "the cluster's policy forbids it",
    47: "another `kveil migrate` of these topics has taken over, or this one was held up for too long: run it again",
    53: "the cluster doesn't let this login use the transactional id",
    76: "the topic doesn't take the compression of the source's records",
    87: "the topic doesn't take a record, most often one without a key in a compacted topic",
    90: "another `kveil migrate` of these topics has taken over, or this one was held up for too long: run it again",
}

_FOR_NOW: Final = frozenset({14, 15, 51})
"""The coordinator loads, isn't there yet, or still ends the transaction before (CONCURRENT_TRANSACTIONS)."""
_FOR_NOW_SECONDS: Final = 30.0
_PAUSE_SECONDS: Final = 0.02


Codes = Callable[[Any], Sequence[Any]]
"""Finds an answer's error codes."""


def _only_code(answer: Any) -> list[Any]:
    return [answer.error_code]


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """A topic as Metadata has it."""

    name: str
    topic_id: str
    leaders: Mapping[int, int]
    """By partition."""
    replicas: int


class Cluster:
    """Answers of brokers, errors told apart."""

    def __init__(self, shared: Shared, stack: AsyncExitStack) -> None:
        self._shared = shared
        self._stack = stack
        self.most_bytes = shared.settings.limits.frame_bytes // 2
        """Of records in one frame, so that it isn't over the limit."""
        self._clients: dict[object, tuple[OwnClient, asyncio.Lock]] = {}

    async def ask(self, api: ApiKey, values: Mapping[str, Any], *, most: int = 32767, node: int | None = None) -> Any:
        """Return the answer of a broker, or of any. `ask_apart` has a connection of its own.

        :raises TryAgain: there is none now.
        """
        return await self._ask(node, api, values, most, node)

    async def ask_apart(self, api: ApiKey, values: Mapping[str, Any], *, most: int, node: int) -> Any:
        """Return the answer of a broker, on the connection to it for this API alone, so that nothing else waits."""
        return await self._ask((api, node), api, values, most, node)

    async def _ask(self, name: object, api: ApiKey, values: Mapping[str, Any], most: int, node: int | None) -> Any:
        if name not in self._clients:
            client = await self._stack.enter_async_context(own_client(self._shared, node))
            self._clients.setdefault(name, (client, asyncio.Lock()))
        client, lock = self._clients[name]
        async with lock:
            try:
                return await client.ask(api, values, most=most)
            except (QuestionFailed, ProtocolError) as error:
                raise TryAgain(str(error)) from error

    async def ask_settled(
        self, api: ApiKey, values: Mapping[str, Any], *, most: int, node: int | None, codes: Codes = _only_code
    ) -> Any:
        """Return the answer of a coordinator, once it is there and isn't busy with what was before.

        :raises MigrateError: it answered one of the other errors.
        """
        deadline = time.monotonic() + _FOR_NOW_SECONDS
        while True:
            answer = await self.ask(api, values, most=most, node=node)
            found = [code for code in codes(answer) if int(code)]
            if not any(int(code) in _FOR_NOW for code in found) or time.monotonic() > deadline:
                break
            await asyncio.sleep(_PAUSE_SECONDS)
        for code in found:
            check(code, API_TABLE[api].name)
        return answer

    # Topics and offsets --------------------------------------------------------------------------------------------

    async def find_topic(self, name: str) -> Topic | None:
        """Return the topic, None if there is none.

        :raises TryAgain: a partition has no leader now.
        """
        values = {"topics": [{"name": name, "topic_id": bytes(16)}], "allow_auto_topic_creation": False}
        (found,) = (await self.ask(ApiKey.METADATA, values, most=12)).topics
        if int(found.error_code) == UNKNOWN_TOPIC:
            return None
        check(found.error_code, f"the topic {name}")
        for partition in found.partitions:
            check(partition.error_code, f"{name}/{partition.partition_index}")
        return Topic(
            name=name,
            topic_id=getattr(getattr(found, "topic_id", None), "hex", ""),  # brokers before 2.8 have none
            leaders={each.partition_index: each.leader_id for each in sorted(found.partitions, key=_index)},
            replicas=len(found.partitions[0].replica_nodes),
        )

    async def offsets(self, topic: Topic, timestamp: int, *, committed: bool = True) -> dict[int, int]:
        """Return the first or the end offset of each partition; the end as readers of committed records have it."""
        found: dict[int, int] = {}
        for node, partitions in by_leader(topic, topic.leaders).items():
            rows = [
                {"partition_index": each, "current_leader_epoch": -1, "timestamp": timestamp} for each in partitions
            ]
            values = {
                "replica_id": -1,
                "isolation_level": READ_COMMITTED if committed else 0,
                "topics": [{"name": topic.name, "partitions": rows}],
            }
            answer = await self.ask(ApiKey.LIST_OFFSETS, values, most=7, node=node)
            for row in answer.topics[0].partitions:
                check(row.error_code, f"{topic.name}/{row.partition_index}")
                found[row.partition_index] = row.offset
        return dict(sorted(found.items()))

    async def sizes(self, topic: Topic) -> int | None:
        """Return the bytes that the topic's leaders hold, None where this login may not know."""
        total = 0
        for node, partitions in by_leader(topic, topic.leaders).items():
            values = {"topics": [{"topic": topic.name, "partitions": partitions}]}
            answer = await self.ask(ApiKey.DESCRIBE_LOG_DIRS, values, most=4, node=node)
            if not answer.results or int(answer.error_code or 0):
                return None
            rows = [row for each in answer.results for found in each.topics for row in found.partitions]
            total += sum(row.partition_size for row in rows)
        return total

    # Coordinators ---------------------------------------------------------------------------------------------------

    async def coordinator(self, kind: int, key: str) -> int:
        """Return the node id of a group's or a transaction's coordinator."""
        values = {"key": key, "key_type": kind, "coordinator_keys": [key]}
        answer = await self.ask_settled(
            ApiKey.FIND_COORDINATOR, values, most=5, node=None, codes=lambda found: [_coordinator_in(found).error_code]
        )
        return int(_coordinator_in(answer).node_id)

    async def brokers(self) -> list[int]:
        """Return every broker's node id."""
        answer = await self.ask(ApiKey.METADATA, {"topics": [], "allow_auto_topic_creation": False}, most=12)
        return [each.node_id for each in answer.brokers]

    async def committed(self, group: str, topic: Topic) -> dict[int, tuple[int, str]]:
        """Return what a group has committed of a topic: offset and metadata, by partition. Waits for transactions."""
        node = await self.coordinator(GROUP, group)
        partitions = list(topic.leaders)
        topics = [{"name": topic.name, "partition_indexes": partitions}]
        values = {
            "group_id": group,
            "topics": topics,
            "groups": [{"group_id": group, "topics": topics, "member_epoch": -1}],
            "require_stable": True,
        }
        answer = await self.ask(ApiKey.OFFSET_FETCH, values, most=9, node=node)
        found = answer.groups[0] if hasattr(answer, "groups") else answer
        check(found.error_code, f"the group {group}")
        rows = [row for each in found.topics for row in each.partitions]
        for row in rows:
            check(row.error_code, f"the group {group}")
        return {
            row.partition_index: (row.committed_offset, row.metadata or "") for row in rows if row.committed_offset >= 0
        }


@asynccontextmanager
async def connected(shared: Shared) -> AsyncIterator[Cluster]:
    """Yield the cluster, with connections for the length of a block."""
    async with AsyncExitStack() as stack:
        cluster = Cluster(shared, stack)
        await cluster.brokers()  # whose answer says where each is
        yield cluster


def by_leader(topic: Topic, partitions: Iterable[int]) -> dict[int, list[int]]:
    """Return the partitions of each leader."""
    found: dict[int, list[int]] = {}
    for partition in partitions:
        found.setdefault(topic.leaders[partition], []).append(partition)
    return found


def check(code: Any, about: str, *, detail: str | None = None) -> None:
    """Pass if there is no error.

    :raises MigrateError: it is of no use to try again.
    :raises TryAgain: it is.
    """
    if not int(code):
        return
    reason = f" ({detail})" if detail else ""
    if int(code) in _FINAL:
        raise MigrateError(f"{about}: {_FINAL[int(code)]}; the broker answered {code.name.upper()}{reason}")
    raise TryAgain(f"{about}: the broker answered {code.name.upper()}{reason}")


def _coordinator_in(answer: Any) -> Any:
    """The one that was asked for: since KIP-699 there may be several in an answer."""
    return answer.coordinators[0] if hasattr(answer, "coordinators") else answer


def _index(partition: Any) -> int:
    return int(partition.partition_index)
