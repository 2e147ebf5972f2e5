"""All codecs: of the client's batch, which comes back as it was sealed, and of the topic, which the broker applies."""

import pytest
from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME

from tests.support import java
from tests.support.clients import (
    Record,
    aiokafka_produce,
    aiokafka_read,
    librdkafka_messages,
    librdkafka_produce,
    librdkafka_read,
    numbered,
)
from tests.support.kafka import Cluster
from tests.support.kafkajs import COMPRESSIONS, kafkajs_produce
from tests.support.proxy import Proxy
from tests.support.raw_client import RawClient

CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
ATTRIBUTES_LOW = 22
CODEC_BITS = 0x07
T = 1_700_000_000_000
RECORDS = [
    Record(value=b"a value that is worth compressing " * 3 + b"%d" % number, key=b"%d" % number, timestamp=T + number)
    for number in range(1000)
]
# Without a wait, librdkafka sends its first batch with one record.
LINGER = {"linger_ms": 50, "batch_num_messages": 10_000}


def delivered_codecs(bootstrap: str, topic: str) -> set[int]:
    with RawClient(bootstrap) as client:
        return {batch[ATTRIBUTES_LOW] & CODEC_BITS for batch in client.fetch(topic).batches}


@pytest.mark.parametrize("codec", CODECS)
async def test_librdkafka_codecs(kafka: Cluster, proxy: Proxy, topic: str, codec: str):
    kafka.create_topic(topic)
    librdkafka_produce(proxy.bootstrap, topic, RECORDS, compression_type=codec, **LINGER)
    assert delivered_codecs(proxy.bootstrap, topic) == {CODECS[codec]}
    assert librdkafka_read(proxy.bootstrap, topic) == numbered(RECORDS)
    assert await aiokafka_read(proxy.bootstrap, topic) == numbered(RECORDS)


@pytest.mark.parametrize("codec", CODECS)
async def test_aiokafka_codecs(kafka: Cluster, proxy: Proxy, topic: str, codec: str):
    kafka.create_topic(topic)
    kind = None if codec == "none" else codec
    await aiokafka_produce(proxy.bootstrap, topic, RECORDS, compression_type=kind, linger_ms=50)
    assert delivered_codecs(proxy.bootstrap, topic) == {CODECS[codec]}
    assert await aiokafka_read(proxy.bootstrap, topic) == numbered(RECORDS)
    assert librdkafka_read(proxy.bootstrap, topic) == numbered(RECORDS)


@pytest.mark.parametrize("codec", CODECS)
def test_java_codecs(kafka: Cluster, proxy: Proxy, topic: str, codec: str):
    kafka.create_topic(topic)
    load = ("--num-records", "5000", "--payload-monotonic", "--throughput", "-1")
    props = [f"compression.type={codec}", "linger.ms=50", "batch.size=65536"]
    reach = ("--bootstrap-server", proxy.bootstrap, "--topic", topic)
    java.java_tool(java.PRODUCER_PERFORMANCE, *reach, *load, "--command-property", *props)
    assert delivered_codecs(proxy.bootstrap, topic) == {CODECS[codec]}
    values = [record.value for record in librdkafka_read(proxy.bootstrap, topic)]
    assert values == [b"%d" % number for number in range(5000)]


@pytest.mark.parametrize("codec", COMPRESSIONS)
def test_kafkajs_codecs(kafka: Cluster, proxy: Proxy, topic: str, codec: str):
    kafka.create_topic(topic)
    values = [record.value or b"" for record in RECORDS]
    kafkajs_produce(proxy.bootstrap, topic, values, codec)
    assert delivered_codecs(proxy.bootstrap, topic) == {CODECS[codec]}
    assert [record.value for record in librdkafka_read(proxy.bootstrap, topic)] == values


@pytest.mark.parametrize("topic_codec", ["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"])
def test_topics_with_a_codec_of_their_own(kafka: Cluster, proxy: Proxy, topic: str, topic_codec: str):
    """The broker unpacks and packs what it stores, which changes the sealed batch's outside and nothing else."""
    kafka.create_topic(topic, config={"compression.type": topic_codec})
    sent: list[Record] = []
    for codec in CODECS:
        for records in (RECORDS[:1], RECORDS[:10], RECORDS):
            librdkafka_produce(proxy.bootstrap, topic, records, compression_type=codec, **LINGER)
            sent += records
    assert librdkafka_read(proxy.bootstrap, topic) == numbered(sent)
    assert delivered_codecs(proxy.bootstrap, topic) == set(CODECS.values())
    if topic_codec not in {"producer", "uncompressed"}:
        assert delivered_codecs(kafka.bootstrap, topic) == {CODECS[topic_codec]}


@pytest.mark.parametrize("topic_codec", ["producer", "gzip"])
async def test_log_append_time(kafka: Cluster, proxy: Proxy, topic: str, topic_codec: str):
    """The broker's time is what every consumer gets, of every record."""
    settings = {"message.timestamp.type": "LogAppendTime", "compression.type": topic_codec}
    kafka.create_topic(topic, config=settings)
    for records in (RECORDS[:3], RECORDS):
        librdkafka_produce(proxy.bootstrap, topic, records, **LINGER)
    opened = librdkafka_messages(proxy.bootstrap, topic)
    stored = librdkafka_messages(kafka.bootstrap, topic)
    assert [message.timestamp() for message in opened] == [message.timestamp() for message in stored]
    assert {message.timestamp()[0] for message in opened} == {TIMESTAMP_LOG_APPEND_TIME}
    assert min(message.timestamp()[1] for message in opened) > T + 1_000_000
    expected = [record.value for record in [*RECORDS[:3], *RECORDS]]
    assert [message.value() for message in opened] == expected
    by_aiokafka = await aiokafka_read(proxy.bootstrap, topic)
    assert [record.timestamp for record in by_aiokafka] == [message.timestamp()[1] for message in stored]
