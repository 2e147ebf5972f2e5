"""Batches of every size, with every kind of acknowledgement: nothing is lost, doubled or out of order."""

import random
import struct
import uuid

import pytest
from confluent_kafka import Consumer, KafkaError

from tests.support import java
from tests.support.clients import (
    Record,
    Sender,
    aiokafka_produce,
    as_record,
    librdkafka,
    librdkafka_produce,
    librdkafka_read,
    numbered,
)
from tests.support.kafka import Cluster
from tests.support.kafkajs import kafkajs_produce
from tests.support.proxy import Proxy
from tests.support.raw_client import RawClient, batch

SECONDS = 60.0
T = 1_700_000_000_000
DEFAULT_LIMIT = 1_048_588
ONE_BATCH = {"linger_ms": 1000, "batch_num_messages": 10_000, "batch_size": 1_000_000}
COUNT_AT = 57


def stored_batches(kafka: Cluster, topic: str) -> list[tuple[int, int]]:
    """Bytes and records of each batch in the topic's segments."""
    data, found = kafka.stored_bytes(topic), []
    while data:
        size = 12 + int.from_bytes(data[8:12], "big")
        found.append((size, int.from_bytes(data[COUNT_AT : COUNT_AT + 4], "big")))
        data = data[size:]
    return found


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 127, 128, 129, 1000, 9999, 10_000])
def test_one_batch_of_many_records(kafka: Cluster, proxy: Proxy, topic: str, count: int):
    """Around the counts at which stubs are written in another way."""
    kafka.create_topic(topic)
    sent = [Record(value=b"%d" % number, timestamp=T + number % 7) for number in range(count)]
    librdkafka_produce(proxy.bootstrap, topic, sent, **ONE_BATCH)
    assert sum(records for _, records in stored_batches(kafka, topic)) == count
    assert max(records for _, records in stored_batches(kafka, topic)) == count
    assert librdkafka_read(proxy.bootstrap, topic) == numbered(sent)


@pytest.mark.parametrize("value", [b"", None], ids=["empty", "null"])
def test_records_of_no_bytes(kafka: Cluster, proxy: Proxy, topic: str, value: bytes | None):
    kafka.create_topic(topic)
    with RawClient(proxy.bootstrap) as client:
        for count in (1, 300):
            assert client.produce({topic: {0: batch([value] * count)}})[topic, 0][0] == 0
        assert client.fetch(topic).values == [(offset, value) for offset in range(301)]


def test_full_librdkafka_batches(kafka: Cluster, proxy: Proxy, topic: str):
    """600,000 records of 100 bytes, as fast as they go: batches fill to 1,000,000 bytes, and none is too large."""
    kafka.create_topic(topic)
    count, size = 600_000, 100
    noise = random.Random(1).randbytes(count + size)
    queue = {"queue_buffering_max_messages": 700_000, "queue_buffering_max_kbytes": 200_000}
    sender = Sender(proxy.bootstrap, topic, linger_ms=200, batch_num_messages=10_000, **queue)
    for number in range(count):
        sender.producer.produce(topic, number.to_bytes(4, "big") + noise[number : number + size - 4], partition=0)
        if not number % 10_000:
            sender.producer.poll(0)
    assert sender.producer.flush(SECONDS) == 0
    sizes = stored_batches(kafka, topic)
    assert sum(records for _, records in sizes) == count
    assert max(nbytes for nbytes, _ in sizes) > 1_000_000
    assert kafka.topic_config(topic)["max.message.bytes"] == str(DEFAULT_LIMIT)
    with RawClient(proxy.bootstrap) as client:
        offset = 0
        while offset < count:
            values = client.fetch(topic, offset=offset).values
            assert values
            for at, value in values:
                assert at == offset
                assert value == offset.to_bytes(4, "big") + noise[offset : offset + size - 4]
                offset += 1


@pytest.mark.parametrize(("size", "least"), [(10, 9_000), (88, 9_000), (500, 1_800), (999_000, 1)])
def test_fullest_batches(kafka: Cluster, proxy: Proxy, topic: str, size: int, least: int):
    """One batch, as large as librdkafka makes it, of records from tiny to huge, which don't shrink."""
    kafka.create_topic(topic)
    count = min(10_000, 990_000 // (size + 8)) or 1
    sent = [Record(value=random.Random(number).randbytes(size), timestamp=T) for number in range(count)]
    librdkafka_produce(proxy.bootstrap, topic, sent, message_max_bytes=1_000_000, **ONE_BATCH)
    assert max(records for _, records in stored_batches(kafka, topic)) >= least
    assert librdkafka_read(proxy.bootstrap, topic) == numbered(sent)


def test_a_batch_over_the_topics_limit_is_the_clients_error(kafka: Cluster, proxy: Proxy, topic: str):
    """As without a proxy: the broker's answer comes back, and smaller records go on."""
    kafka.create_topic(topic, config={"max.message.bytes": 5000})
    sender = Sender(proxy.bootstrap, topic)
    sender.send(Record(value=b"x" * 10_000))
    sender.flush()
    assert [error.code() for error in sender.errors] == [KafkaError.MSG_SIZE_TOO_LARGE]
    sender.send(Record(value=b"small", timestamp=T))
    sender.flush()
    assert librdkafka_read(proxy.bootstrap, topic) == [Record(value=b"small", timestamp=T, offset=0)]


@pytest.mark.parametrize("acks", ["0", "1", "all"])
def test_acks(kafka: Cluster, proxy: Proxy, topic: str, acks: str):
    kafka.create_topic(topic)
    sent = [Record(value=b"%d" % number, timestamp=T) for number in range(2000)]
    librdkafka_produce(proxy.bootstrap, topic, sent, acks=acks, linger_ms=1, batch_num_messages=50)
    reader = {"group_id": uuid.uuid4().hex, "auto_offset_reset": "earliest"}
    consumer = Consumer(librdkafka(proxy.bootstrap, **reader))
    try:
        consumer.subscribe([topic])
        read = [as_record(message) for message in consumer.consume(len(sent), SECONDS)]
    finally:
        consumer.close()
    assert read == numbered(sent)


def test_acks_0_between_other_requests(kafka: Cluster, proxy: Proxy, topic: str):
    """It has no answer, and the next request's answer is its own."""
    kafka.create_topic(topic)
    with RawClient(proxy.bootstrap) as client:
        for number in range(20):
            client.send_produce({topic: {0: batch([b"unanswered %d" % number])}}, acks=0)
            answer = client.produce({topic: {0: batch([b"answered %d" % number])}})
            assert answer == {(topic, 0): (0, 2 * number + 1)}
        values = [value for _, value in client.fetch(topic).values]
    assert values == [b"%s %d" % (kind, number) for number in range(20) for kind in (b"unanswered", b"answered")]


def sequences(kafka: Cluster, topic: str) -> list[tuple[int, int]]:
    """Base sequence and record count of each stored batch, which must have a producer id."""
    data, found = kafka.stored_bytes(topic), []
    while data:
        producer_id, _, sequence, count = struct.unpack_from(">qhii", data, 43)
        assert producer_id >= 0
        found.append((sequence, count))
        data = data[12 + int.from_bytes(data[8:12], "big") :]
    return found


@pytest.mark.parametrize("client", ["librdkafka", "aiokafka", "kafkajs", "java"])
async def test_idempotent_producers(kafka: Cluster, proxy: Proxy, topic: str, client: str):
    """The broker sees the client's producer id and sequences, without a gap."""
    kafka.create_topic(topic)
    count = 1000
    sent = [Record(value=b"%d" % number, timestamp=T) for number in range(count)]
    if client == "librdkafka":
        librdkafka_produce(proxy.bootstrap, topic, sent, enable_idempotence=True, batch_num_messages=30)
    elif client == "aiokafka":
        await aiokafka_produce(proxy.bootstrap, topic, sent, enable_idempotence=True, max_batch_size=1000)
    elif client == "kafkajs":
        kafkajs_produce(proxy.bootstrap, topic, [record.value or b"" for record in sent], idempotent=True)
    else:
        reach = ("--bootstrap-server", proxy.bootstrap, "--topic", topic)
        load = ("--num-records", str(count), "--payload-monotonic", "--throughput", "-1")
        java.java_tool(java.PRODUCER_PERFORMANCE, *reach, *load, "--command-property", "batch.size=1000")
    found = sequences(kafka, topic)
    assert [sequence for sequence, _ in found] == [sum(n for _, n in found[:at]) for at in range(len(found))]
    assert [record.value for record in librdkafka_read(proxy.bootstrap, topic)] == [record.value for record in sent]
