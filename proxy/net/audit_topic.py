"""Audit events on a topic, by an idempotent producer of the proxy's own (KIP-98).

It produces as a client of this very proxy does, so its records are sealed as the topic's rule says, and go by the
proxy's TLS and login. An event is a record in the structured mode of CloudEvents' Kafka protocol binding. Each process
writes to one partition, so its events keep their order. What wasn't acknowledged is sent again under the same sequence
numbers: no event is missing, and none stands twice but after the broker has forgotten the producer.
"""

import asyncio
import os
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from itertools import islice
from typing import Any, Final

from kveil.protocol.kafka.api_table import ApiKey
from kveil.protocol.kafka.errors import ProtocolError
from kveil.protocol.kafka.records import write_headers, write_record, write_record_header
from kveil.proxy.admin.audit_sinks import QueuedSink
from kveil.proxy.context import Shared
from kveil.proxy.errors import ErrorCode, QuestionFailed
from kveil.proxy.log import get_logger, log_limited
from kveil.proxy.net.own_batches import Numbered, own_batch
from kveil.proxy.net.own_client import OwnClient, own_client
from kveil.proxy.net.upstream import Upstream

HEADERS: Final = write_headers([write_record_header(b"content-type", b"application/cloudevents+json; charset=UTF-8")])
EVENTS_AT_ONCE: Final = 200
"""Some 120 kB."""
BATCH_BYTES: Final = 256 * 1024
"""Of events in one batch, well below the default limit of a topic. A single event may be larger."""
RETRY_SECONDS: Final = 1.0
ATTEMPT_SECONDS: Final = 10.0
"""After so long without an answer the sink is in trouble."""
_SEQUENCES: Final = 2**31
_ACKS_ALL: Final = -1
_PRODUCE_MS: Final = 8_000
# The last versions that name topics instead of giving their ids.
_METADATA: Final = 9
_PRODUCE: Final = 12
_FORGOTTEN: Final = frozenset(
    {ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, ErrorCode.INVALID_PRODUCER_EPOCH, ErrorCode.UNKNOWN_PRODUCER_ID}
)

_log = get_logger(__name__)


class AuditTopic(QueuedSink):
    """The sink that is a topic."""

    def __init__(self, shared: Shared, topic: str, limit: int, upstream: Upstream) -> None:
        super().__init__("topic", limit)
        self._shared = shared
        self._topic = topic
        self._upstream = upstream
        self._come = asyncio.Event()
        self._stack = AsyncExitStack()
        self._client: OwnClient | None = None
        self._partition = 0
        self._producer: Numbered | None = None
        self._under_way = 0
        """Events of the batch that wasn't acknowledged yet: it is sent again as it was."""

    def put(self, line: bytes) -> None:
        """Take an event."""
        super().put(line.rstrip(b"\n"))
        self._come.set()

    async def run(self) -> None:
        """Produce what comes."""
        try:
            while True:
                await self._come.wait()
                if not self.waiting:
                    self._come.clear()
                elif await self._hand_on():
                    self.went_well()
                    self.changed()
                else:
                    self.changed()
                    await asyncio.sleep(RETRY_SECONDS)
        finally:
            await self._stack.aclose()

    async def _hand_on(self) -> bool:
        """Produce one batch, and return whether it was acknowledged. A broken connection is made anew once."""
        for is_last in (False, True):
            try:
                async with asyncio.timeout(ATTEMPT_SECONDS):
                    await self._produce()
            except (QuestionFailed, ProtocolError, OSError) as error:  # TimeoutError among them
                if is_last:
                    self.failed(str(error) or f"no answer within {ATTEMPT_SECONDS:g} s")
            except Exception as error:
                log_limited(_log.exception, "audit_topic_failed")  # a defect of ours, which must not end the audit
                self.failed(type(error).__name__)
            else:
                return True
            await self._disconnect()
        return False

    async def _produce(self) -> None:
        client = await self._connected()
        producer = self._producer or await self._begin(client)
        self._under_way = count = self._under_way or _fitting(self.waiting)
        events = list(islice(self.waiting, count))
        rows = [piece for at, event in enumerate(events) for piece in write_record(0, at, None, event, HEADERS)]
        records = own_batch(rows, count, round(time.time() * 1000), producer)
        partition = {"index": self._partition, "records": records}
        values = {
            "transactional_id": None,
            "acks": _ACKS_ALL,
            "timeout": _PRODUCE_MS,
            "topic_data": [{"name": self._topic, "partition_data": [partition]}],
        }
        answer = await client.ask(ApiKey.PRODUCE, values, most=_PRODUCE)
        self._check_stored(_only(_only(answer.responses).partition_responses))
        self._under_way = 0
        self._producer = producer._replace(first=(producer.first + count) % _SEQUENCES)
        for _ in events:
            self.waiting.popleft()

    def _check_stored(self, found: Any) -> None:
        code = int(found.error_code)
        if code in {0, ErrorCode.DUPLICATE_SEQUENCE_NUMBER}:
            return
        if code in _FORGOTTEN:
            self._producer, self._under_way = None, 0
        if code == ErrorCode.MESSAGE_TOO_LARGE:
            self._under_way = max(1, self._under_way // 2)  # nothing was stored: its numbers are free
        detail = getattr(found, "error_message", None)
        reason = f": {detail}" if detail else ""
        raise QuestionFailed(f"the topic {self._topic}: the answer was {_name(found)}{reason}")

    async def _connected(self) -> OwnClient:
        if self._client is None:
            async with own_client(self._shared, upstream=self._upstream) as any_broker:
                leader = await self._find_leader(any_broker)
            client = own_client(self._shared, leader, self._upstream)
            self._client = await self._stack.enter_async_context(client)
        return self._client

    async def _find_leader(self, client: OwnClient) -> int:
        values = {"topics": [{"name": self._topic}], "allow_auto_topic_creation": False}
        found = _only((await client.ask(ApiKey.METADATA, values, most=_METADATA)).topics)
        if int(found.error_code) == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION:
            raise QuestionFailed(f"there is no topic {self._topic}, or this login may not see it: make it")
        if int(found.error_code):
            raise QuestionFailed(f"the topic {self._topic}: the broker answered {_name(found)}")
        rows = sorted(found.partitions, key=lambda row: int(row.partition_index))
        row = rows[os.getpid() % len(rows)]
        if self._producer is not None and row.partition_index != self._partition:
            self._producer, self._under_way = None, 0  # numbers count for each partition
        self._partition = row.partition_index
        if int(row.error_code):
            raise QuestionFailed(f"{self._topic}/{self._partition}: the broker answered {_name(row)}")
        return int(row.leader_id)

    async def _begin(self, client: OwnClient) -> Numbered:
        """Become a producer, with numbers from 0 on."""
        values = {"transactional_id": None, "transaction_timeout": 60_000, "producer_id": -1, "producer_epoch": -1}
        answer = await client.ask(ApiKey.INIT_PRODUCER_ID, values, most=4)
        if int(answer.error_code):
            raise QuestionFailed(f"the broker answered InitProducerId with {_name(answer)}")
        self._producer = Numbered(answer.producer_id, answer.producer_epoch, 0)
        return self._producer

    async def _disconnect(self) -> None:
        self._client = None
        stack, self._stack = self._stack, AsyncExitStack()
        await stack.aclose()


def _fitting(events: Sequence[bytes]) -> int:
    """Return how many of the first events make one batch."""
    size = 0
    for count, event in enumerate(islice(events, EVENTS_AT_ONCE)):
        size += len(event)
        if count and size > BATCH_BYTES:
            return count
    return min(len(events), EVENTS_AT_ONCE)


def _only(items: Sequence[Any]) -> Any:
    if len(items) != 1:
        raise QuestionFailed("the broker's answer leaves the topic out")
    return items[0]


def _name(row: Any) -> str:
    return str(row.error_code.name).upper()
