"""Brokers of the last release before Kafka 4: what every client does, directly and through the proxy."""

import uuid
from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, Producer, TopicCollection
from confluent_kafka import TopicPartition as Place
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from kveil.protocol.kafka.api_table import ApiKey
from tests.support import java
from tests.support.clients import (
    Record,
    aiokafka_produce,
    aiokafka_read,
    librdkafka,
    librdkafka_produce,
    librdkafka_read,
    numbered,
)
from tests.support.jvm import OLDER_KAFKA_VERSION
from tests.support.kafka import Cluster, kafka_cluster
from tests.support.kafkajs import Message, kafkajs_consume, kafkajs_produce
from tests.support.proxy import Proxy, kveil_proxy
from tests.support.raw_client import RawClient

pytestmark = pytest.mark.broker

SECONDS = 60.0
T = 1_700_000_000_000
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
RECORDS = [
    Record(value=b"veiled value %d " % n * 5, key=b"k%d" % (n % 7), headers=(("n", b"%d" % n),), timestamp=T - n)
    for n in range(300)
]


@pytest.fixture(scope="module")
def kafka() -> Iterator[Cluster]:
    with kafka_cluster(version=OLDER_KAFKA_VERSION) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def proxy(kafka: Cluster) -> Iterator[Proxy]:
    with kveil_proxy(kafka.bootstrap) as running:
        yield running
        assert not running.events("connection_failed"), running.events("connection_failed")


def offered(address: str) -> dict[int, int]:
    """The newest version of each API."""
    with RawClient(address) as client:
        return {each.api_key: each.max_version for each in client.ask(ApiKey.API_VERSIONS, 0, {}).api_keys}


def test_it_is_older(kafka: Cluster, proxy: Proxy):
    """The broker knows neither topic ids in Produce nor share groups, and the proxy doesn't say that it does."""
    direct, proxied = offered(kafka.bootstrap), offered(proxy.bootstrap)
    assert direct[ApiKey.PRODUCE] < 13
    assert ApiKey.SHARE_FETCH not in direct
    assert proxied.items() <= direct.items()
    assert {ApiKey.PRODUCE, ApiKey.FETCH, ApiKey.METADATA} <= proxied.keys()


@pytest.mark.parametrize("codec", CODECS)
async def test_codecs(kafka: Cluster, proxy: Proxy, topic: str, codec: str):
    kafka.create_topic(topic)
    librdkafka_produce(proxy.bootstrap, topic, RECORDS[:200], compression_type=codec, linger_ms=50)
    kind = None if codec == "none" else codec
    await aiokafka_produce(proxy.bootstrap, topic, RECORDS[200:], compression_type=kind)
    assert librdkafka_read(proxy.bootstrap, topic) == numbered(RECORDS)
    assert await aiokafka_read(proxy.bootstrap, topic) == numbered(RECORDS)
    assert b"veiled" not in kafka.stored_bytes(topic)


def test_kafkajs(kafka: Cluster, proxy: Proxy, topic: str):
    kafka.create_topic(topic)
    kafkajs_produce(proxy.bootstrap, topic, [Message(value=b"%d" % n, timestamp=T) for n in range(50)])
    read = kafkajs_consume(proxy.bootstrap, topic, uuid.uuid4().hex, 50)
    assert [(message.value, message.offset, message.timestamp) for message in read] == [
        (b"%d" % n, n, T) for n in range(50)
    ]


def test_java(kafka: Cluster, proxy: Proxy, topic: str):
    kafka.create_topic(topic)
    typed = "".join(f"line {n}\n" for n in range(50))
    reach = ("--bootstrap-server", proxy.bootstrap, "--topic", topic)
    java.java_tool(java.CONSOLE_PRODUCER, *reach, stdin=typed)
    read = java.java_tool(java.CONSOLE_CONSUMER, *reach, "--from-beginning", "--max-messages", "50")
    assert read.stdout == typed


def write_transactions(bootstrap: str, topic: str) -> None:
    producer = Producer(librdkafka(bootstrap, transactional_id=topic))
    producer.init_transactions(SECONDS)
    for kind in ("commit", "abort", "commit"):
        producer.begin_transaction()
        for number in range(20):
            producer.produce(topic, f"{kind} {number}", timestamp=T)
        assert producer.flush(SECONDS) == 0
        if kind == "commit":
            producer.commit_transaction(SECONDS)
        else:
            producer.abort_transaction(SECONDS)
    Producer(librdkafka(bootstrap, transactional_id=topic)).init_transactions(SECONDS)  # the last markers are written


@pytest.mark.parametrize("level", ["read_committed", "read_uncommitted"])
async def test_transactions(kafka: Cluster, proxy: Proxy, topic: str, level: str):
    direct, sealed = f"{topic}-direct", f"{topic}-sealed"
    for name, bootstrap in ((direct, kafka.bootstrap), (sealed, proxy.bootstrap)):
        kafka.create_topic(name)
        write_transactions(bootstrap, name)
    expected = librdkafka_read(kafka.bootstrap, direct, isolation_level=level)
    assert len(expected) == (40 if level == "read_committed" else 60)
    assert librdkafka_read(proxy.bootstrap, sealed, isolation_level=level) == expected
    assert await aiokafka_read(proxy.bootstrap, sealed, isolation_level=level) == expected


def test_groups(kafka: Cluster, proxy: Proxy, topic: str):
    """A member goes on in the middle of a sealed batch, where another one has stopped."""
    kafka.create_topic(topic)
    librdkafka_produce(proxy.bootstrap, topic, RECORDS, linger_ms=50)
    for start, count in ((0, 7), (7, 250), (257, 43)):
        consumer = Consumer(librdkafka(proxy.bootstrap, group_id=topic, auto_offset_reset="earliest"))
        try:
            consumer.subscribe([topic])
            messages = consumer.consume(count, SECONDS)
            assert [message.value() for message in messages] == [r.value for r in RECORDS[start : start + count]]
            consumer.commit(offsets=[Place(topic, 0, start + count)], asynchronous=False)
        finally:
            consumer.close()
    admin = AdminClient({"bootstrap.servers": proxy.bootstrap})
    group = admin.describe_consumer_groups([topic])[topic].result(SECONDS)
    assert group.coordinator.port == proxy.port + 1


def test_administration(kafka: Cluster, proxy: Proxy, topic: str):
    admin = AdminClient({"bootstrap.servers": proxy.bootstrap})
    admin.create_topics([NewTopic(topic, 2, 1, config={"retention.ms": "1234567"})])[topic].result(SECONDS)
    assert kafka.topic_config(topic)["retention.ms"] == "1234567"
    admin.create_partitions([NewPartitions(topic, 3)])[topic].result(SECONDS)
    described = admin.describe_topics(TopicCollection([topic]))[topic].result(SECONDS)
    assert {each.leader.port for each in described.partitions} == {proxy.port + 1}
    assert len(described.partitions) == 3
    assert topic in java.java_tool(java.TOPICS, "--bootstrap-server", proxy.bootstrap, "--list").stdout.split()
    admin.delete_topics([topic])[topic].result(SECONDS)
    assert topic not in admin.list_topics(timeout=SECONDS).topics
