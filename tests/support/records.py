"""Record batches as producers send and brokers store them, and the requests and answers that carry them."""

import asyncio
from collections.abc import Mapping
from struct import pack_into
from typing import Any

from kveil.protocol.envelope.batch import peek, seal
from kveil.protocol.envelope.errors import OtherMode
from kveil.protocol.envelope.record import peek_records
from kveil.protocol.kafka.record_batch import check_produced, read_header, split_batches
from kveil.proxy.config import Mode
from kveil.proxy.context import Shared
from tests.vectors.reference import Batch, client_records, record


def client_batch(count: int = 3, **fields: Any) -> bytes:
    """A producer's batch."""
    return Batch(client_records(count), count, **fields).encode()


def idempotent(sequence: int, *, epoch: int = 0, count: int = 1, producer_id: int = 7) -> bytes:
    """A batch of an idempotent producer."""
    return client_batch(count, producer_id=producer_id, producer_epoch=epoch, base_sequence=sequence)


def marker(*, commit: bool = True, offset: int = 0, content: bytes | None = None) -> bytes:
    """The end of a transaction as brokers write it; `content` is what a liar writes there."""
    value = record(0, b"\0\0\0\1" if commit else b"\0\0\0\0", b"\0\0" + b"\0\0\0\x09")
    return Batch(content or value, 1, base_offset=offset, attributes=0x30, producer_id=7, producer_epoch=0).encode()


def legacy(magic: int, value: bytes = b"plain in disguise") -> bytes:
    """A message of an old format."""
    body = (
        bytes((magic, 0)) + (bytes(8) if magic else b"") + b"\xff\xff\xff\xff" + len(value).to_bytes(4, "big") + value
    )
    return bytes(8) + (4 + len(body)).to_bytes(4, "big") + bytes(4) + body


def at_offset(batch: bytes, offset: int, leader_epoch: int = 5) -> bytes:
    """The batch as a broker stores it: neither field is under the checksum."""
    stored = bytearray(batch)
    pack_into(">q", stored, 0, offset)
    pack_into(">i", stored, 12, leader_epoch)
    return bytes(stored)


def sealed(
    shared: Shared,
    topic: str,
    partition: int,
    batch: bytes,
    *,
    offset: int = 0,
    rule: Any = None,
    compress: bool = False,
) -> bytes:
    """A batch as the proxy's broker would store it."""
    key = asyncio.run(shared.keys.renew(topic, rule or shared.policy.rule_for(topic)))
    view = memoryview(bytearray(batch))
    pieces = seal(view, check_produced(view), key=key, partition=partition, compress=compress)
    return at_offset(b"".join(map(bytes, pieces)), offset)


def mode_of(records: bytes | None) -> Mode:
    """How the first batch of a record set is sealed."""
    view = next(split_batches(records or b""))
    try:
        peek(view, read_header(view))
    except OtherMode:
        peek_records(view, read_header(view))
        return Mode.RECORD
    return Mode.BATCH


def tampered(batch: bytes) -> bytes:
    """A stored batch with one bit of its ciphertext changed."""
    return batch[:-20] + bytes((batch[-20] ^ 1,)) + batch[-19:]


def headers_of(records: bytes | None) -> list[Any]:
    """The headers of the batches in a record set."""
    return [read_header(view) for view in split_batches(records or b"")]


def produced(
    topics: Mapping[str | bytes, Mapping[int, bytes | None]], *, acks: int = -1, **more: Any
) -> dict[str, Any]:
    """The values of a Produce request, topics by name or by id."""
    return {
        "acks": acks,
        "timeout": 30_000,
        "transactional_id": None,
        "topic_data": [
            {
                "name" if isinstance(topic, str) else "topic_id": topic,
                "partition_data": [{"index": index, "records": records} for index, records in partitions.items()],
            }
            for topic, partitions in topics.items()
        ],
        **more,
    }


def fetched(topics: Mapping[str | bytes, Mapping[int, bytes | None]], **more: Any) -> dict[str, Any]:
    """The values of a Fetch answer."""
    return {
        "responses": [
            {
                "topic" if isinstance(topic, str) else "topic_id": topic,
                "partitions": [
                    {"partition_index": index, "high_watermark": 100, "records": records, "aborted_transactions": None}
                    for index, records in partitions.items()
                ],
            }
            for topic, partitions in topics.items()
        ],
        **more,
    }
