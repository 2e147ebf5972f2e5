"""Transactions: consumers see exactly what they see without a proxy, committed or not."""

import uuid

import pytest
from aiokafka import AIOKafkaProducer
from confluent_kafka import Consumer, Producer
from confluent_kafka import TopicPartition as Place

from tests.support import java
from tests.support.clients import Record, aiokafka_read, librdkafka, librdkafka_produce, librdkafka_read
from tests.support.kafka import Cluster
from tests.support.proxy import Proxy

SECONDS = 60.0
T = 1_700_000_000_000
LEVELS = ("read_committed", "read_uncommitted")


def transactional(bootstrap: str, transactional_id: str, **more: object) -> Producer:
    producer = Producer(librdkafka(bootstrap, transactional_id=transactional_id, **more))
    producer.init_transactions(SECONDS)
    return producer


def write_transactions(bootstrap: str, topic: str) -> None:
    """Commit, abort, and commit over two partitions, in batches of ten records, with others' records in between.

    Markers are written some time after a commit has returned, so what is to stand before one is written before it.
    """
    producer = transactional(bootstrap, topic, batch_num_messages=10)
    for round_, (kind, partitions) in enumerate([("commit", [0]), ("abort", [0, 1]), ("commit", [0, 1])]):
        producer.begin_transaction()
        for number in range(25):
            for partition in partitions:
                value = f"{kind} {round_}.{number}".encode()
                producer.produce(topic, value, partition=partition, timestamp=T + number)
        assert producer.flush(SECONDS) == 0
        librdkafka_produce(bootstrap, topic, [Record(value=b"plain %d" % round_, timestamp=T)])
        if kind == "commit":
            producer.commit_transaction(SECONDS)
        else:
            producer.abort_transaction(SECONDS)
    transactional(bootstrap, topic)  # which the coordinator lets begin when the last markers are written


@pytest.fixture(scope="module")
def written(kafka: Cluster, proxy: Proxy) -> tuple[str, str]:
    """The same program's records directly and through the proxy."""
    topics = (f"transactions-direct-{uuid.uuid4().hex}", f"transactions-sealed-{uuid.uuid4().hex}")
    for name, bootstrap in zip(topics, (kafka.bootstrap, proxy.bootstrap), strict=True):
        kafka.create_topic(name, partitions=2)
        write_transactions(bootstrap, name)
    return topics


@pytest.mark.parametrize("level", LEVELS)
async def test_readers_see_the_same(kafka: Cluster, proxy: Proxy, written: tuple[str, str], level: str):
    """Offsets included: markers take one each."""
    direct, sealed = written
    expected = librdkafka_read(kafka.bootstrap, direct, isolation_level=level)
    aborted = [record for record in expected if (record.value or b"").startswith(b"abort")]
    assert len(expected) == (25 + 25 * 2 + 3) + len(aborted)
    assert len(aborted) == (0 if level == "read_committed" else 50)
    assert librdkafka_read(proxy.bootstrap, sealed, isolation_level=level) == expected
    assert await aiokafka_read(proxy.bootstrap, sealed, isolation_level=level) == expected


@pytest.mark.parametrize("level", LEVELS)
def test_java_readers_see_the_same(kafka: Cluster, proxy: Proxy, written: tuple[str, str], level: str):
    printed = []
    for name, bootstrap in zip(written, (kafka.bootstrap, proxy.bootstrap), strict=True):
        count = len(librdkafka_read(bootstrap, name, isolation_level=level))
        reach = ("--bootstrap-server", bootstrap, "--topic", name, "--from-beginning", "--isolation-level", level)
        shown = ("--formatter-property", "print.offset=true", "--formatter-property", "print.partition=true")
        limits = ("--max-messages", str(count), "--timeout-ms", "60000")
        lines = java.java_tool(java.CONSOLE_CONSUMER, *reach, *shown, *limits).stdout.splitlines()
        assert len(lines) == count
        printed.append(sorted(lines))
    assert printed[0] == printed[1]


def test_an_open_transaction_holds_committed_readers_back(kafka: Cluster, proxy: Proxy, topic: str):
    kafka.create_topic(topic)
    producer = transactional(proxy.bootstrap, topic)
    producer.begin_transaction()
    producer.produce(topic, b"pending", partition=0, timestamp=T)
    producer.flush(SECONDS)
    librdkafka_produce(proxy.bootstrap, topic, [Record(value=b"behind", timestamp=T)])

    def values(level: str) -> list[bytes | None]:
        return [record.value for record in librdkafka_read(proxy.bootstrap, topic, isolation_level=level)]

    assert values("read_uncommitted") == [b"pending", b"behind"]
    assert values("read_committed") == []
    producer.commit_transaction(SECONDS)
    assert values("read_committed") == [b"pending", b"behind"]


def test_consume_transform_produce(kafka: Cluster, proxy: Proxy, topic: str):
    """Offsets are committed with the transaction, and an aborted one gives its input back."""
    source, sink = f"{topic}-source", f"{topic}-sink"
    kafka.create_topic(source)
    kafka.create_topic(sink)
    librdkafka_produce(proxy.bootstrap, source, [Record(value=b"%d" % number) for number in range(10)])
    group = {"group_id": topic, "auto_offset_reset": "earliest", "enable_auto_commit": False}
    consumer = Consumer(librdkafka(proxy.bootstrap, **group))
    producer = transactional(proxy.bootstrap, topic)
    consumer.subscribe([source])
    try:
        for end in (producer.abort_transaction, producer.commit_transaction):
            messages = consumer.consume(10, SECONDS)
            assert [message.value() for message in messages] == [b"%d" % number for number in range(10)]
            producer.begin_transaction()
            for message in messages:
                producer.produce(sink, b"%s done" % message.value(), partition=0)
            place = Place(source, 0, 10)
            producer.send_offsets_to_transaction([place], consumer.consumer_group_metadata(), SECONDS)
            end(SECONDS)
            (committed,) = consumer.committed([Place(source, 0)], SECONDS)
            if end == producer.abort_transaction:
                assert committed.offset < 0
                consumer.seek(Place(source, 0, 0))
        assert committed.offset == 10
    finally:
        consumer.close()
    values = [record.value for record in librdkafka_read(proxy.bootstrap, sink, isolation_level="read_committed")]
    assert values == [b"%d done" % number for number in range(10)]


async def test_aiokafka_transactions(kafka: Cluster, proxy: Proxy, topic: str):
    kafka.create_topic(topic)
    async with AIOKafkaProducer(bootstrap_servers=proxy.bootstrap, transactional_id=topic) as producer:
        async with producer.transaction():
            await producer.send_and_wait(topic, b"committed", partition=0, timestamp_ms=T)
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"aborted", partition=0, timestamp_ms=T)
        await producer.abort_transaction()
    committed = Record(value=b"committed", timestamp=T, offset=0)
    aborted = Record(value=b"aborted", timestamp=T, offset=2)
    for read in (librdkafka_read, None):
        for level, expected in zip(LEVELS, ([committed], [committed, aborted]), strict=True):
            if read:
                assert read(proxy.bootstrap, topic, isolation_level=level) == expected
            else:
                assert await aiokafka_read(proxy.bootstrap, topic, isolation_level=level) == expected


def test_java_transactions(kafka: Cluster, proxy: Proxy, topic: str):
    """Many short ones: every record is committed once, in order."""
    kafka.create_topic(topic)
    load = ("--num-records", "2000", "--payload-monotonic", "--throughput", "2000")
    reach = ("--bootstrap-server", proxy.bootstrap, "--topic", topic)
    java.java_tool(java.PRODUCER_PERFORMANCE, *reach, *load, "--transaction-duration-ms", "50")
    records = librdkafka_read(proxy.bootstrap, topic, isolation_level="read_committed")
    assert [record.value for record in records] == [b"%d" % number for number in range(2000)]
    assert records[-1].offset is not None
    assert records[-1].offset >= 2000, "no transaction's marker took an offset"
