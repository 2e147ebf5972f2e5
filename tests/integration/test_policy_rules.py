"""Which topic is sealed and which is plain, as the broker and the clients see it."""

import time
import uuid
from collections.abc import Iterator

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as AioPlace
from confluent_kafka import Consumer, KafkaError
from confluent_kafka import TopicPartition as Place

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
from tests.support.kafka import Cluster
from tests.support.proxy import Proxy, kveil_proxy
from tests.support.raw_client import RawClient

SECONDS = 60.0
MAGIC = b"\xc5\x4b\x56"
T = 1_700_000_000_000
RECORDS = [Record(value=b"value %d" % number, key=b"key", timestamp=T) for number in range(30)]
RULES = [
    {"match": "plain-*", "seal": "none"},
    {"match": "mixed-*", "accept_plain": True},
    {"match": "plain-?-never-reached", "seal": "batch"},
]


@pytest.fixture(scope="module")
def ruled(kafka: Cluster) -> Iterator[Proxy]:
    """A proxy with rules and presets."""
    with kveil_proxy(kafka.bootstrap, topics=RULES, config={"presets": ["connect", "schema-registry"]}) as running:
        yield running
        assert not running.events("connection_failed"), running.events("connection_failed")


@pytest.mark.parametrize("name", ["unmatched-{}", "Plain-{}", "a-plain-{}"])
def test_what_no_rule_names_is_sealed(kafka: Cluster, ruled: Proxy, name: str):
    """Patterns cover the whole name, and case counts."""
    topic = name.format(uuid.uuid4().hex)
    kafka.create_topic(topic)
    librdkafka_produce(ruled.bootstrap, topic, RECORDS)
    assert librdkafka_read(ruled.bootstrap, topic) == numbered(RECORDS)
    assert MAGIC in kafka.stored_bytes(topic)
    assert b"value 7" not in kafka.stored_bytes(topic)


async def test_a_plain_topic_passes(kafka: Cluster, ruled: Proxy):
    """From and to every client, and between those with the proxy and those without."""
    topic = f"plain-{uuid.uuid4().hex}"
    kafka.create_topic(topic)
    librdkafka_produce(ruled.bootstrap, topic, RECORDS)
    await aiokafka_produce(ruled.bootstrap, topic, RECORDS)
    reach = ("--bootstrap-server", ruled.bootstrap, "--topic", topic)
    java.java_tool(java.CONSOLE_PRODUCER, *reach, stdin="by java\n")
    direct = librdkafka_read(kafka.bootstrap, topic)
    assert direct[:60] == numbered([*RECORDS, *RECORDS])
    assert librdkafka_read(ruled.bootstrap, topic) == direct
    assert await aiokafka_read(ruled.bootstrap, topic) == direct
    limits = ("--from-beginning", "--max-messages", "61", "--timeout-ms", "60000")
    printed = java.java_tool(java.CONSOLE_CONSUMER, *reach, *limits).stdout.splitlines()
    assert printed == [(record.value or b"").decode() for record in direct]
    assert printed[-1] == "by java"


def offered_produce(bootstrap: str) -> int:
    with RawClient(bootstrap) as client:
        answer = client.ask(ApiKey.API_VERSIONS, 3, {"client_software_name": "test", "client_software_version": "1"})
    return next(row.max_version for row in answer.api_keys if row.api_key == ApiKey.PRODUCE)


def test_produce_goes_by_name_where_a_topic_is_plain(kafka: Cluster, proxy: Proxy, ruled: Proxy):
    """By id, a broker could have a sealed topic's records sent as a plain one's."""
    assert offered_produce(kafka.bootstrap) >= 13
    assert offered_produce(proxy.bootstrap) >= 13
    assert offered_produce(ruled.bootstrap) == 12


def test_internal_topics_are_plain(kafka: Cluster, proxy: Proxy, topic: str):
    """A committed offset is the broker's own record, and reads the same on both sides."""
    kafka.create_topic(topic)
    librdkafka_produce(proxy.bootstrap, topic, RECORDS)
    consumer = Consumer(librdkafka(proxy.bootstrap, group_id=topic))
    consumer.commit(offsets=[Place(topic, 0, 17)], asynchronous=False)
    consumer.close()
    stored = [record for record in librdkafka_read(kafka.bootstrap, "__consumer_offsets") if about(record, topic)]
    assert stored
    opened = librdkafka_read(proxy.bootstrap, "__consumer_offsets")
    assert [record for record in opened if about(record, topic)] == stored


def about(record: Record, group: str) -> bool:
    return group.encode() in (record.key or b"")


@pytest.mark.parametrize("name", ["connect-configs", "_schemas"])
def test_presets(kafka: Cluster, ruled: Proxy, name: str):
    """Compacted, and plain on purpose."""
    kafka.create_topic(name, config={"cleanup.policy": "compact"})
    librdkafka_produce(ruled.bootstrap, name, RECORDS)
    assert librdkafka_read(kafka.bootstrap, name) == numbered(RECORDS)
    assert librdkafka_read(ruled.bootstrap, name) == numbered(RECORDS)


async def test_plain_records_in_a_sealed_topic(
    kafka: Cluster, proxy: Proxy, topic: str, caplog: pytest.LogCaptureFixture
):
    """Somebody went around the proxy: consumers get an error and not a byte; what was sealed before is delivered."""
    kafka.create_topic(topic)
    librdkafka_produce(proxy.bootstrap, topic, RECORDS[:1])
    librdkafka_produce(kafka.bootstrap, topic, [Record(value=b"planted")])
    consumer = Consumer(librdkafka(proxy.bootstrap, group_id=topic, enable_auto_commit=False))
    consumer.assign([Place(topic, 0, 0)])
    try:
        assert first_message(consumer).value() == RECORDS[0].value
        assert first_message(consumer).error().code() == KafkaError.INVALID_MSG
    finally:
        consumer.close()
    async with AIOKafkaConsumer(bootstrap_servers=proxy.bootstrap) as by_aiokafka:
        by_aiokafka.assign([AioPlace(topic, 0)])
        by_aiokafka.seek(AioPlace(topic, 0), 1)
        assert await by_aiokafka.getmany(timeout_ms=500) == {}
    assert "CorruptRecordException" in caplog.text
    reach = ("--bootstrap-server", proxy.bootstrap, "--topic", topic, "--from-beginning", "--timeout-ms", "30000")
    done = java.java_tool(java.CONSOLE_CONSUMER, *reach, check=False)
    assert done.stdout == f"{(RECORDS[0].value or b'').decode()}\n"
    assert "corrupt" in done.stderr.lower()
    unopened = [line for line in proxy.events("batch_unopened") if line["topic"] == topic]
    assert (unopened[0]["first_offset"], unopened[0]["last_offset"]) == (1, 1)
    assert "no envelope" in unopened[0]["reason"]


def first_message(consumer: Consumer):
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        message = consumer.poll(1.0)
        if message is not None:
            return message
    raise TimeoutError("nothing came")


async def test_accept_plain(kafka: Cluster, ruled: Proxy):
    """Plain and sealed records beside each other; what is produced is sealed all the same."""
    topic = f"mixed-{uuid.uuid4().hex}"
    kafka.create_topic(topic)
    for bootstrap in (kafka.bootstrap, ruled.bootstrap, kafka.bootstrap, ruled.bootstrap):
        librdkafka_produce(bootstrap, topic, RECORDS, linger_ms=100)
    assert librdkafka_read(ruled.bootstrap, topic) == numbered(RECORDS * 4)
    assert await aiokafka_read(ruled.bootstrap, topic) == numbered(RECORDS * 4)
    assert kafka.stored_bytes(topic).count(b"value 17") == 2


def test_a_fetch_of_plain_and_sealed_topics(kafka: Cluster, ruled: Proxy):
    """In one request, each by its own rule."""
    names = [f"{kind}-{uuid.uuid4().hex}" for kind in ("plain", "mixed", "sealed")]
    for name in names:
        kafka.create_topic(name)
        librdkafka_produce(ruled.bootstrap, name, RECORDS, linger_ms=100)
    with RawClient(ruled.bootstrap) as client:
        found = client.fetch_all({name: {0: 0} for name in names})
    for name in names:
        assert [value for _, value in found[name, 0].values] == [record.value for record in RECORDS]
