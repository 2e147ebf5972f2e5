"""A client of single requests over a socket: it does what it is told, also what no library would do.

with RawClient(proxy.bootstrap) as client:
    client.produce({"orders": {0: batch([b"one"])}})
    client.fetch("orders", 0, offset=0)
"""

import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

from kveil.protocol.kafka.api_table import ApiKey
from kveil.protocol.kafka.messages import decode_response, encode_request
from kveil.protocol.kafka.record_batch import split_batches

PRODUCE_VERSION = 9  # the last with topic names in flexible encoding that every broker of today speaks
FETCH_VERSION = 12
METADATA_VERSION = 12
LIST_OFFSETS_VERSION = 7  # the first that looks for the largest timestamp
SECONDS = 30.0
NOT_LEADER = 6


class ConnectionClosedError(ConnectionError):
    """The other side closed instead of answering."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """One partition of a Fetch answer."""

    error: int
    high_watermark: int
    records: bytes

    @property
    def batches(self) -> list[bytes]:
        """Its complete batches."""
        return [bytes(each) for each in split_batches(self.records)]

    @property
    def values(self) -> list[tuple[int, bytes | None]]:
        """Offset and value of every record."""
        return [pair for each in self.batches for pair in offsets_and_values(each)]


def offsets_and_values(stored: bytes) -> list[tuple[int, bytes | None]]:
    """Offset and value of a batch's records, its checksum checked."""
    opened = DefaultRecordBatch(bytearray(stored))
    assert opened.validate_crc()
    return [(record.offset, record.value) for record in opened]


def batch(
    values: Sequence[bytes | None],
    *,
    codec: int = 0,
    timestamp_ms: int | Sequence[int] | None = None,
    key: bytes | None = b"key",
) -> bytes:
    """A plain record batch as a producer sends it, not idempotent. It is from now unless told otherwise.

    `timestamp_ms` is one for all records, or one for each.
    """
    stamps = int(time.time() * 1000) if timestamp_ms is None else timestamp_ms
    if isinstance(stamps, int):
        stamps = [stamps] * len(values)
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=codec,
        is_transactional=False,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=1 << 30,
    )
    for index, (value, timestamp) in enumerate(zip(values, stamps, strict=True)):
        builder.append(index, timestamp=timestamp, key=key, value=value, headers=[])
    return bytes(builder.build())


class RawClient:
    """One connection. Every request waits for its answer unless told otherwise."""

    def __init__(self, address: str, *, client_id: str = "raw", receive_buffer: int | None = None) -> None:
        host, _, port = address.rpartition(":")
        self._client_id = client_id
        self._correlation_id = 0
        self.socket = socket.socket()
        try:
            if receive_buffer is not None:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            self.socket.settimeout(SECONDS)
            self.socket.connect((host, int(port)))
        except BaseException:
            self.socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def send(self, api_key: int, version: int, values: Mapping[str, Any]) -> None:
        """Send a request and don't wait."""
        self._correlation_id += 1
        frame = encode_request(api_key, version, self._correlation_id, self._client_id, values)
        self.socket.sendall(len(frame).to_bytes(4, "big") + frame)

    def receive(self, api_key: int, version: int) -> Any:
        """Wait for the next answer, whose request had this API and version."""
        return decode_response(api_key, version, self.receive_frame())

    def receive_frame(self) -> bytes:
        """Wait for the next frame."""
        return self._read(int.from_bytes(self._read(4), "big"))

    def _read(self, size: int) -> bytes:
        taken = bytearray()
        while len(taken) < size:
            try:
                piece = self.socket.recv(min(size - len(taken), 1 << 20))
            except ConnectionResetError:
                piece = b""
            if not piece:
                raise ConnectionClosedError("closed by the other side")
            taken += piece
        return bytes(taken)

    def ask(self, api_key: int, version: int, values: Mapping[str, Any]) -> Any:
        """Send a request and wait for its answer."""
        self.send(api_key, version, values)
        return self.receive(api_key, version)

    def is_closed_by_peer(self) -> bool:
        """Wait until the other side has closed; False if it sends something instead."""
        try:
            return not self.socket.recv(1)
        except ConnectionResetError:
            return True

    # Requests ----------------------------------------------------------------------------------------------------

    def metadata(self, *topics: str, create: bool = False) -> Any:
        """Ask for topics."""
        values = {
            "topics": [{"topic_id": bytes(16), "name": name} for name in topics],
            "allow_auto_topic_creation": create,
        }
        return self.ask(ApiKey.METADATA, METADATA_VERSION, values)

    def leaders(self, topic: str, partitions: int) -> list[int]:
        """Return each partition's leader, once this broker knows of them."""
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            (found,) = self.metadata(topic).topics
            leaders = {each.partition_index: each.leader_id for each in found.partitions}
            if len(leaders) == partitions and min(leaders.values()) >= 0:
                return [leaders[index] for index in range(partitions)]
        raise TimeoutError(f"no leaders for {topic}")

    def send_produce(
        self, topics: Mapping[str, Mapping[int, bytes]], *, acks: int = -1, version: int = PRODUCE_VERSION
    ) -> None:
        """Send batches by topic and partition."""
        self.send(ApiKey.PRODUCE, version, _produce_values(topics, acks))

    def produce(
        self, topics: Mapping[str, Mapping[int, bytes]], *, version: int = PRODUCE_VERSION
    ) -> dict[tuple[str, int], tuple[int, int]]:
        """Produce batches by topic and partition; the answer has error code and base offset of each, in order.

        What a broker doesn't lead yet, because its topic was made a moment ago, is sent again.
        """
        answers = self._produce_once(topics, version)
        deadline = time.monotonic() + SECONDS
        while early := [place for place, (code, _) in answers.items() if code == NOT_LEADER]:
            assert time.monotonic() < deadline, early
            for topic, partition in early:
                answers |= self._produce_once({topic: {partition: topics[topic][partition]}}, version)
        return answers

    def _produce_once(
        self, topics: Mapping[str, Mapping[int, bytes]], version: int
    ) -> dict[tuple[str, int], tuple[int, int]]:
        self.send_produce(topics, version=version)
        answer = self.receive(ApiKey.PRODUCE, version)
        return {
            (topic.name, each.index): (int(each.error_code), each.base_offset)
            for topic in answer.responses
            for each in topic.partition_responses
        }

    def send_fetch(self, topics: Mapping[str, Mapping[int, int]], *, version: int = FETCH_VERSION, **more: Any) -> None:
        """Ask for records from an offset on, by topic and partition. `more` are fields of the request."""
        self.send(ApiKey.FETCH, version, _fetch_values(topics, **more))

    def fetch_all(
        self, topics: Mapping[str, Mapping[int, int]], *, version: int = FETCH_VERSION, **more: Any
    ) -> dict[tuple[str, int], Fetched]:
        """Fetch from several partitions at once."""
        self.send_fetch(topics, version=version, **more)
        answer = self.receive(ApiKey.FETCH, version)
        return {
            (topic.topic, each.partition_index): Fetched(
                int(each.error_code), each.high_watermark, bytes(each.records or b"")
            )
            for topic in answer.responses
            for each in topic.partitions
        }

    def list_offsets(
        self,
        topic: str,
        timestamps: Mapping[int, int],
        *,
        version: int = LIST_OFFSETS_VERSION,
        isolation_level: int = 0,
    ) -> dict[int, tuple[int, int, int, int | None]]:
        """Look up timestamps by partition; the answer has error code, offset, timestamp and leader epoch of each."""
        asked = [
            {"partition_index": index, "current_leader_epoch": -1, "timestamp": timestamp}
            for index, timestamp in timestamps.items()
        ]
        values = {
            "replica_id": -1,
            "isolation_level": isolation_level,
            "topics": [{"name": topic, "partitions": asked}],
        }
        (found,) = self.ask(ApiKey.LIST_OFFSETS, version, values).topics
        return {
            each.partition_index: (
                int(each.error_code),
                each.offset,
                each.timestamp,
                getattr(each, "leader_epoch", None),
            )
            for each in found.partitions
        }

    def fetch(self, topic: str, partition: int = 0, offset: int = 0, **more: Any) -> Fetched:
        """Fetch from one partition."""
        return self.fetch_all({topic: {partition: offset}}, **more)[topic, partition]


def _produce_values(topics: Mapping[str, Mapping[int, bytes]], acks: int) -> dict[str, Any]:
    data = [
        {"name": name, "partition_data": [{"index": index, "records": each} for index, each in partitions.items()]}
        for name, partitions in topics.items()
    ]
    return {"transactional_id": None, "acks": acks, "timeout": 10_000, "topic_data": data}


def _fetch_values(topics: Mapping[str, Mapping[int, int]], *, max_bytes: int = 1 << 26, **more: Any) -> dict[str, Any]:
    asked = [
        {
            "topic": name,
            "partitions": [
                {
                    "partition": index,
                    "fetch_offset": offset,
                    "partition_max_bytes": max_bytes,
                    "current_leader_epoch": -1,
                    "last_fetched_epoch": -1,
                    "log_start_offset": -1,
                }
                for index, offset in partitions.items()
            ],
        }
        for name, partitions in topics.items()
    ]
    return {
        "replica_id": -1,
        "max_wait": 100,
        "min_bytes": 1,
        "max_bytes": max_bytes,
        "session_id": 0,
        "session_epoch": -1,
        "topics": asked,
        **more,
    }
