"""Transactions: records into the destination, and the source offsets that they reach, together or not at all (KIP-98).

The versions spoken are those before KIP-890's second part, in which a client adds partitions by itself: every broker
since Kafka 0.11 knows them.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from kveil.protocol.kafka.api_table import ApiKey
from kveil.proxy.migrate.cluster import GROUP, TRANSACTION, Cluster, Topic, by_leader, check
from kveil.proxy.migrate.errors import TooLarge
from kveil.proxy.migrate.records import ProducedBatch, encode_batch

TRANSACTION_MS: Final = 60_000
"""After so long the coordinator aborts a transaction whose client is gone."""

ACKS_ALL: Final = -1
SEQUENCES: Final = 2**31
_PRODUCE_MS: Final = 25_000
_REQUEST_BYTES: Final = 8 * 1024 * 1024
_TOO_LARGE: Final = frozenset({10, 18})
"""MESSAGE_TOO_LARGE and RECORD_LIST_TOO_LARGE."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Producer:
    """Who produces, as the coordinator has it."""

    name: str
    node: int
    producer_id: int
    epoch: int


async def begin(cluster: Cluster, name: str) -> Producer:
    """Return the producer of a transactional id. An earlier one's open transaction is over when this returns."""
    node = await cluster.coordinator(TRANSACTION, name)
    values = {
        "transactional_id": name,
        "transaction_timeout": TRANSACTION_MS,
        "producer_id": -1,
        "producer_epoch": -1,
    }
    answer = await cluster.ask_settled(ApiKey.INIT_PRODUCER_ID, values, most=4, node=node)
    return Producer(name=name, node=node, producer_id=answer.producer_id, epoch=answer.producer_epoch)


@dataclass(slots=True)
class Transactions:
    """One transaction after the other, by one producer."""

    cluster: Cluster
    producer: Producer
    topic: Topic
    group: str
    _sequences: dict[int, int] = field(default_factory=dict)
    _partitions: set[int] = field(default_factory=set)
    """Those that the open transaction has."""

    async def produce(self, batches: Mapping[int, Sequence[ProducedBatch]]) -> None:
        """Produce each partition's batches, in order.

        :raises TooLarge: the topic doesn't take one of this size.
        :raises TryAgain: a broker has moved or can't answer now; the transaction is lost.
        """
        wanted = {partition for partition in batches if batches[partition]}
        if not wanted <= self._partitions:
            await self._add(wanted - self._partitions)
        leaders = by_leader(self.topic, sorted(wanted))
        await asyncio.gather(
            *(self._produce(node, {each: batches[each] for each in mine}) for node, mine in leaders.items())
        )

    async def _add(self, partitions: set[int]) -> None:
        topics = [{"name": self.topic.name, "partitions": sorted(partitions)}]
        values = self._named("v3_and_below_") | {"v3_and_below_topics": topics} | self._named() | {"topics": topics}
        await self.cluster.ask_settled(
            ApiKey.ADD_PARTITIONS_TO_TXN, values, most=3, node=self.producer.node, codes=_partition_codes
        )
        self._partitions |= partitions

    def _named(self, prefix: str = "") -> dict[str, Any]:
        return {
            f"{prefix}transactional_id": self.producer.name,
            f"{prefix}producer_id": self.producer.producer_id,
            f"{prefix}producer_epoch": self.producer.epoch,
        }

    async def _produce(self, node: int, batches: Mapping[int, Sequence[ProducedBatch]]) -> None:
        """Produce to one leader: in each request at most one batch of a partition, as brokers want it."""
        left = {partition: list(reversed(mine)) for partition, mine in batches.items()}
        while left:
            rows, size = [], 0
            for partition in list(left):
                if size > min(_REQUEST_BYTES, self.cluster.most_bytes):
                    break
                data = self._encode(partition, left[partition].pop())
                rows.append({"index": partition, "records": data})
                size += len(data)
                if not left[partition]:
                    del left[partition]
            await self._send(node, rows)

    def _encode(self, partition: int, batch: ProducedBatch) -> bytes:
        sequence = self._sequences.get(partition, 0)
        self._sequences[partition] = (sequence + len(batch.records)) % SEQUENCES
        producer = self.producer
        return encode_batch(
            batch, producer_id=producer.producer_id, producer_epoch=producer.epoch, base_sequence=sequence
        )

    async def _send(self, node: int, rows: Sequence[Mapping[str, Any]]) -> None:
        values = {
            "transactional_id": self.producer.name,
            "acks": ACKS_ALL,
            "timeout": _PRODUCE_MS,
            "topic_data": [{"name": self.topic.name, "partition_data": rows}],
        }
        answer = await self.cluster.ask_apart(ApiKey.PRODUCE, values, most=11, node=node)
        for row in (row for each in answer.responses for row in each.partition_responses):
            place = f"{self.topic.name}/{row.index}"
            detail = getattr(row, "error_message", None)
            if int(row.error_code) in _TOO_LARGE:
                raise TooLarge(f"{place} takes no batch of this size: {detail or row.error_code.name}")
            check(row.error_code, place, detail=detail)

    async def commit(self, source: Topic, offsets: Mapping[int, tuple[int, str]]) -> None:
        """Commit what was produced since the last commit, and these offsets of the source, with their metadata."""
        values = self._named() | {"group_id": self.group}
        await self.cluster.ask_settled(ApiKey.ADD_OFFSETS_TO_TXN, values, most=3, node=self.producer.node)
        rows = [
            {"partition_index": each, "committed_offset": offset, "committed_leader_epoch": -1}
            | {"committed_metadata": metadata}
            for each, (offset, metadata) in offsets.items()
        ]
        values |= {"generation_id": -1, "member_id": "", "group_instance_id": None}
        values |= {"topics": [{"name": source.name, "partitions": rows}]}
        node = await self.cluster.coordinator(GROUP, self.group)
        await self.cluster.ask_settled(ApiKey.TXN_OFFSET_COMMIT, values, most=3, node=node, codes=_offset_codes)
        end = self._named() | {"committed": True}
        await self.cluster.ask_settled(ApiKey.END_TXN, end, most=3, node=self.producer.node)
        self._partitions.clear()


def _partition_codes(answer: Any) -> list[Any]:
    return [
        row.partition_error_code for each in answer.results_by_topic_v3_and_below for row in each.results_by_partition
    ]


def _offset_codes(answer: Any) -> list[Any]:
    return [row.error_code for each in answer.topics for row in each.partitions]
