"""Every record comes out as it went in, between every two clients, and as if there were no proxy."""

import uuid
from collections.abc import Awaitable, Callable

import pytest

from tests.support.clients import (
    Record,
    aiokafka_produce,
    aiokafka_read,
    by_partition,
    librdkafka_produce,
    librdkafka_read,
    numbered,
)
from tests.support.kafka import Cluster
from tests.support.kafkajs import Message, kafkajs_consume, kafkajs_produce
from tests.support.proxy import Proxy

PARTITIONS = 3
T = 1_700_000_000_000
ALL_BYTES = bytes(range(256))

RECORDS = [
    Record(value=b"value", key=b"key", headers=(("name", b"header"),), timestamp=T),
    Record(value=b"", key=b"", headers=(("empty", b""),), timestamp=T + 5),
    Record(value=None, key=b"a delete", timestamp=T + 1),  # timestamps need not grow
    Record(value=b"no key", key=None, timestamp=1),
    Record(value=ALL_BYTES, key=ALL_BYTES, headers=(("bytes", ALL_BYTES), ("ünï", b"\x00")), timestamp=T),
    Record(value=b"large " * 20_000, key=b"large", timestamp=T),
    Record(value=b"elsewhere", key=b"1", partition=1, timestamp=T),
    *(Record(value=b"%d" % number, partition=2, timestamp=T + number) for number in range(200)),
]
"""What all three clients can send and read."""


async def write_librdkafka(bootstrap: str, topic: str) -> None:
    librdkafka_produce(bootstrap, topic, RECORDS)


async def write_aiokafka(bootstrap: str, topic: str) -> None:
    await aiokafka_produce(bootstrap, topic, RECORDS)


async def write_kafkajs(bootstrap: str, topic: str) -> None:
    messages = [
        Message(
            value=record.value,
            key=record.key,
            headers=dict(record.headers),
            partition=record.partition,
            timestamp=record.timestamp,
        )
        for record in RECORDS
    ]
    kafkajs_produce(bootstrap, topic, messages)


async def read_librdkafka(bootstrap: str, topic: str) -> list[Record]:
    return librdkafka_read(bootstrap, topic)


async def read_kafkajs(bootstrap: str, topic: str) -> list[Record]:
    messages = kafkajs_consume(bootstrap, topic, uuid.uuid4().hex, len(RECORDS))
    return by_partition(
        Record(
            value=message.value,
            key=message.key,
            headers=tuple(message.headers.items()),
            partition=message.partition or 0,
            timestamp=message.timestamp,
            offset=message.offset,
        )
        for message in messages
    )


WRITERS: dict[str, Callable[[str, str], Awaitable[None]]] = {
    "librdkafka": write_librdkafka,
    "aiokafka": write_aiokafka,
    "kafkajs": write_kafkajs,
}
READERS: dict[str, Callable[[str, str], Awaitable[list[Record]]]] = {
    "librdkafka": read_librdkafka,
    "aiokafka": aiokafka_read,
    "kafkajs": read_kafkajs,
}


@pytest.mark.parametrize("writer", WRITERS)
async def test_every_reader_gets_what_was_written(kafka: Cluster, proxy: Proxy, topic: str, writer: str):
    """The same program directly and through the proxy: same records, order, offsets and timestamps for all readers."""
    direct, sealed = f"{topic}-direct", f"{topic}-sealed"
    for name, bootstrap in ((direct, kafka.bootstrap), (sealed, proxy.bootstrap)):
        kafka.create_topic(name, PARTITIONS)
        await WRITERS[writer](bootstrap, name)
    for reader, read in READERS.items():
        expected = await read(kafka.bootstrap, direct)
        assert await read(proxy.bootstrap, sealed) == expected, reader
        assert expected == numbered(RECORDS), f"{reader} without a proxy"


async def test_a_header_name_may_be_there_twice(kafka: Cluster, proxy: Proxy, topic: str):
    kafka.create_topic(topic)
    headers = (("same", b"1"), ("other", b""), ("same", b"2"), ("same", b"1"))
    records = [Record(value=b"v", headers=headers, timestamp=T)]
    librdkafka_produce(proxy.bootstrap, topic, records)
    assert librdkafka_read(proxy.bootstrap, topic) == numbered(records)
    assert await aiokafka_read(proxy.bootstrap, topic) == numbered(records)


def test_everything_may_be_null(kafka: Cluster, proxy: Proxy, topic: str):
    kafka.create_topic(topic)
    headers = (("null", None), ("empty", b""), ("", b"no name"))
    records = [Record(timestamp=T), Record(value=b"v", headers=headers, timestamp=T), Record(timestamp=T + 1)]
    librdkafka_produce(proxy.bootstrap, topic, records)
    assert librdkafka_read(proxy.bootstrap, topic) == numbered(records)


def test_what_is_produced_later_follows(kafka: Cluster, proxy: Proxy, topic: str):
    """Batches of several producers and a reader in between: offsets go on as the broker counts them."""
    kafka.create_topic(topic)
    sent: list[Record] = []
    for round_ in range(5):
        records = [Record(value=b"%d.%d" % (round_, number), timestamp=T + round_) for number in range(20 * round_ + 1)]
        librdkafka_produce(proxy.bootstrap, topic, records)
        sent += records
        assert librdkafka_read(proxy.bootstrap, topic) == numbered(sent)
