"""Committed records of partitions, fetched by way of the proxy, from one offset to another."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from kveil.protocol.kafka.api_table import ApiKey
from kveil.protocol.kafka.errors import BatchRefused
from kveil.proxy.migrate.cluster import READ_COMMITTED, Cluster, Topic, by_leader, check
from kveil.proxy.migrate.errors import MigrateError, TryAgain
from kveil.proxy.migrate.records import FetchedBatch, committed_batches

PARTITION_BYTES: Final = 4 * 1024 * 1024
"""Of one partition in an answer; its first batch comes whole whatever its size."""
ANSWER_BYTES: Final = 16 * 1024 * 1024
WAIT_MS: Final = 500
_BY_NAME: Final = 12
"""The last version of Fetch that names topics."""
_CORRUPT: Final = 2
_OUT_OF_RANGE: Final = 1


@dataclass(slots=True)
class Fetched:
    """What one partition gave."""

    position: int
    """Where to go on."""
    batches: list[FetchedBatch] = field(default_factory=list)


class Reader:
    """Reads one topic."""

    def __init__(self, cluster: Cluster, topic: Topic, *, most_bytes: int = ANSWER_BYTES) -> None:
        self._cluster = cluster
        self._topic = topic
        self._most_bytes = min(most_bytes, cluster.most_bytes)

    async def fetch(self, positions: Mapping[int, int], ends: Mapping[int, int]) -> dict[int, Fetched]:
        """Return what follows, of all partitions at once, up to the ends. Empty where nothing has come yet.

        :raises TryAgain: a leader has moved or can't answer now.
        :raises MigrateError: a batch doesn't open, or offsets are gone.
        """
        leaders = by_leader(self._topic, (each for each in positions if positions[each] < ends[each]))
        answers = await asyncio.gather(
            *(self._fetch(node, {each: positions[each] for each in partitions}) for node, partitions in leaders.items())
        )
        rows = [row for answer in answers for each in answer for row in each.partitions]
        return {row.partition_index: self._read(row, positions, ends) for row in rows}

    async def _fetch(self, node: int, positions: Mapping[int, int]) -> Any:
        rows = [
            {"partition": each, "fetch_offset": offset, "partition_max_bytes": min(PARTITION_BYTES, self._most_bytes)}
            | {"current_leader_epoch": -1, "last_fetched_epoch": -1, "log_start_offset": -1}
            for each, offset in positions.items()
        ]
        values = {
            "replica_id": -1,
            "max_wait": WAIT_MS,
            "min_bytes": 1,
            "max_bytes": self._most_bytes,
            "isolation_level": READ_COMMITTED,
            "session_id": 0,
            "session_epoch": -1,
            "topics": [{"topic": self._topic.name, "partitions": rows}],
            "rack_id": "",
        }
        answer = await self._cluster.ask_apart(ApiKey.FETCH, values, most=_BY_NAME, node=node)
        check(answer.error_code, f"fetching {self._topic.name}")
        return answer.responses

    def _read(self, row: Any, positions: Mapping[int, int], ends: Mapping[int, int]) -> Fetched:
        partition = row.partition_index
        start, before = positions[partition], ends[partition]
        place = f"{self._topic.name}/{partition} from offset {start} on"
        if int(row.error_code) == _CORRUPT:
            raise MigrateError(f"{place}: a batch doesn't open; the log line batch_unopened says which, and why")
        if int(row.error_code) == _OUT_OF_RANGE:
            raise MigrateError(f"{place}: these records are gone from the topic, deleted before they were read")
        check(row.error_code, place)
        fetched = Fetched(start)
        try:
            for position, batch in committed_batches(row.records or b"", row.aborted_transactions, start, before):
                fetched.position = max(fetched.position, position)
                if batch is not None:
                    fetched.batches.append(batch)
        except BatchRefused as error:
            raise TryAgain(f"{place}: {error}") from error
        return fetched

    async def read(self, partition: int, start: int, end: int) -> AsyncIterator[FetchedBatch]:
        """Yield one partition's batches from an offset to another."""
        position = start
        while position < end:
            found = (await self.fetch({partition: position}, {partition: end}))[partition]
            if found.position == position:
                raise TryAgain(f"{self._topic.name}/{partition}: nothing came from offset {position} on")
            position = found.position
            for batch in found.batches:
                yield batch
