"""Record mode on a real broker: compaction does what it does in plain, and nothing but the times is in sight."""

import time
import uuid
from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer

from kveil.protocol.kafka.api_table import ApiKey
from kveil.protocol.kafka.record_batch import read_header, split_batches
from tests.support.clients import (
    Record,
    aiokafka_produce,
    as_record,
    librdkafka,
    librdkafka_produce,
    librdkafka_read,
    numbered,
)
from tests.support.kafka import Cluster, kafka_cluster
from tests.support.proxy import Proxy, kveil_proxy
from tests.support.raw_client import RawClient
from tests.support.records import produced
from tests.vectors.reference import Batch, record

SECONDS = 60.0
T = 1_700_000_000_000
MAGIC = b"\xc5\x4b\x56"
COMPACTED = {
    "cleanup.policy": "compact",
    "min.cleanable.dirty.ratio": "0.001",
    "segment.ms": "200",
    "delete.retention.ms": "0",
}
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


@pytest.fixture(scope="module")
def cleaning() -> Iterator[Cluster]:
    """A broker whose log cleaner doesn't rest."""
    with kafka_cluster(properties={"log.cleaner.backoff.ms": 50, "log.segment.delete.delay.ms": 0}) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def proxy(cleaning: Cluster) -> Iterator[Proxy]:
    rules = [{"match": "clear-*", "mode": "record", "keys": "clear"}, {"match": "record-*", "mode": "record"}]
    with kveil_proxy(cleaning.bootstrap, topics=rules, config={"limits": {"topic_settings_seconds": 0.5}}) as running:
        yield running
        assert not running.events("connection_failed")


def history(keys: int, rounds: int) -> list[Record]:
    """Each key again and again, every third one deleted in the end."""
    records = [
        Record(key=b"key-%d" % key, value=b"value %d of %d" % (number, key), timestamp=T + number)
        for number in range(rounds)
        for key in range(keys)
    ]
    return records + [Record(key=b"key-%d" % key, timestamp=T + rounds) for key in range(0, keys, 3)]


def latest(records: list[Record]) -> dict[bytes | None, bytes | None]:
    """What stands after compaction: the last value of each key, deletes gone."""
    table = {record.key: record.value for record in records}
    return {key: value for key, value in table.items() if value is not None}


def roll(bootstrap: str, topic: str) -> None:
    """Close the active segment, which is never cleaned: a record after segment.ms does it."""
    librdkafka_produce(bootstrap, topic, [Record(key=b"end", value=uuid.uuid4().hex.encode())])


def wait_until_compacted(bootstrap: str, topic: str, most: int) -> list[Record]:
    """Read until no more than `most` records are left before the last ones."""
    deadline = time.monotonic() + SECONDS
    while True:
        roll(bootstrap, topic)
        records = [record for record in librdkafka_read(bootstrap, topic) if record.key != b"end"]
        if len(records) <= most:
            return records
        assert time.monotonic() < deadline, f"{len(records)} records are left"


@pytest.mark.broker
@pytest.mark.parametrize("codec", CODECS)
def test_what_is_read_is_what_was_written(cleaning: Cluster, proxy: Proxy, topic: str, codec: str):
    """Keys, values, headers, times, nulls; and none of it stands on the disks."""
    name = f"record-{topic}"
    cleaning.create_topic(name, partitions=2)
    secret = uuid.uuid4().hex.encode()
    sent = [
        Record(
            key=None if number % 5 == 0 else secret + b"key %d" % (number % 3),
            value=None if number % 7 == 3 else secret + b"%d" % number,
            headers=(("h-" + secret.decode(), secret), ("empty", None)) if number % 2 else (),
            partition=number % 2,
            timestamp=T + number,
        )
        for number in range(200)
    ]
    librdkafka_produce(proxy.bootstrap, name, sent, compression_type=codec, linger_ms=50)
    assert librdkafka_read(proxy.bootstrap, name) == numbered(sent)
    assert not cleaning.contains(secret)
    stored = librdkafka_read(cleaning.bootstrap, name)
    assert [record.timestamp for record in stored] == [record.timestamp for record in numbered(sent)]
    assert [record.value is None for record in stored] == [record.value is None for record in numbered(sent)]
    assert all((record.value or dict(record.headers)["kveil"]).startswith(MAGIC) for record in stored)


@pytest.mark.broker
async def test_aiokafka_reads_and_writes_it_too(cleaning: Cluster, proxy: Proxy, topic: str):
    name = f"record-{topic}"
    cleaning.create_topic(name)
    sent = [Record(key=b"k", value=b"%d" % number, timestamp=T) for number in range(50)]
    await aiokafka_produce(proxy.bootstrap, name, sent, enable_idempotence=True)
    assert librdkafka_read(proxy.bootstrap, name) == numbered(sent)


@pytest.mark.broker
def test_equal_keys_are_equal_on_the_wire_and_only_there(cleaning: Cluster, proxy: Proxy, topic: str):
    names = [f"record-{topic}-{number}" for number in range(2)]
    seen = []
    for name in names:
        cleaning.create_topic(name)
        librdkafka_produce(proxy.bootstrap, name, [Record(key=key, value=b"v") for key in (b"a", b"b", b"a")])
        seen.append([record.key for record in librdkafka_read(cleaning.bootstrap, name)])
    for first, second, third in seen:
        assert first == third != second
        assert len(first or b"") == 32
    assert not set(seen[0]) & set(seen[1])


@pytest.mark.broker
def test_keys_are_shown_where_a_rule_says_so(cleaning: Cluster, proxy: Proxy, topic: str):
    name = f"clear-{topic}"
    cleaning.create_topic(name)
    sent = [Record(key=b"in sight", value=b"not in sight", timestamp=T), Record(key=b"in sight", timestamp=T)]
    librdkafka_produce(proxy.bootstrap, name, sent)
    assert librdkafka_read(proxy.bootstrap, name) == numbered(sent)
    assert cleaning.contains(b"in sight")
    assert not cleaning.contains(b"not in sight")


@pytest.mark.broker
@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_compaction_keeps_the_latest_of_each_key(cleaning: Cluster, proxy: Proxy, topic: str, codec: str):
    """The mode follows the topic's cleanup.policy; the log cleaner runs for real, and leaves batches with holes."""
    cleaning.create_topic(topic, config=COMPACTED)
    sent = history(keys=30, rounds=20)
    librdkafka_produce(proxy.bootstrap, topic, sent, compression_type=codec, linger_ms=20, batch_num_messages=45)
    expected = latest(sent)
    left = wait_until_compacted(proxy.bootstrap, topic, len(expected))
    assert {record.key: record.value for record in left} == expected
    assert [record.timestamp for record in left] == [T + 19] * len(expected)
    assert has_holes(cleaning, topic)


def has_holes(cluster: Cluster, topic: str) -> bool:
    headers = [read_header(view) for view in split_batches(cluster.stored_bytes(topic))]
    return any(header.record_count <= header.last_offset_delta for header in headers)


@pytest.mark.broker
def test_a_topic_that_becomes_compacted(cleaning: Cluster, proxy: Proxy, topic: str):
    """Batches that were sealed as a whole stay readable; those behind them are sealed record by record."""
    cleaning.create_topic(topic)
    old = [Record(key=b"old %d" % number, value=b"%d" % number, timestamp=T) for number in range(20)]
    librdkafka_produce(proxy.bootstrap, topic, old, linger_ms=50)
    cleaning.alter_topic_config(topic, COMPACTED)
    new = history(keys=10, rounds=5)
    # A batch of several records that was sealed as a whole is refused by now, and is tried again in the other mode.
    librdkafka_produce(proxy.bootstrap, topic, new, linger_ms=50, enable_idempotence=True)
    found = librdkafka_read(proxy.bootstrap, topic)
    assert [(record.key, record.value) for record in found] == [(record.key, record.value) for record in old + new]
    expected = latest(new)
    # The log cleaner drops the stubs, which have no keys: record 0 of the sealed batch stays, and so all that it holds.
    left = wait_until_compacted(proxy.bootstrap, topic, len(old) + len(expected))
    table = {record.key: record.value for record in left}
    assert table == {**{record.key: record.value for record in old}, **expected}


@pytest.mark.broker
def test_both_modes_in_one_topic(cleaning: Cluster, proxy: Proxy, topic: str):
    name = f"record-{topic}"
    cleaning.create_topic(name)
    sent = [Record(key=b"%d" % number, value=b"v", timestamp=T + number) for number in range(6)]
    with kveil_proxy(cleaning.bootstrap, keys=proxy.keys, topics=[{"match": "*", "mode": "batch"}]) as other:
        for position, record in enumerate(sent):
            librdkafka_produce((proxy, other)[position % 2].bootstrap, name, [record])
        assert librdkafka_read(proxy.bootstrap, name) == librdkafka_read(other.bootstrap, name) == numbered(sent)


@pytest.mark.broker
def test_null_keys_in_a_compacted_topic_are_the_clients_error(cleaning: Cluster, proxy: Proxy, topic: str):
    """The broker sees that they are null, and names the same records as for the plain batch."""
    cleaning.create_topic(topic, config=COMPACTED)
    sent = Batch(record(0, b"a key", b"1") + record(1, None, b"2") + record(2, b"a key", b"3"), 3).encode()
    answers = []
    for bootstrap in (cleaning.bootstrap, proxy.bootstrap):
        with RawClient(bootstrap) as client:
            (answer,) = client.ask(ApiKey.PRODUCE, 9, produced({topic: {0: sent}})).responses
            (part,) = answer.partition_responses
            answers.append((int(part.error_code), [error.batch_index for error in part.record_errors]))
    assert answers == [(87, [1])] * 2


@pytest.mark.broker
def test_groups_and_transactions(cleaning: Cluster, proxy: Proxy, topic: str):
    """A consumer that reads committed records gets those of the transaction that ended well."""
    name = f"record-{topic}"
    cleaning.create_topic(name)
    from confluent_kafka import Producer

    producer = Producer(librdkafka(proxy.bootstrap, transactional_id=topic))
    producer.init_transactions(SECONDS)
    for number in range(4):
        producer.begin_transaction()
        producer.produce(name, b"%d" % number, b"k")
        if number % 2:
            producer.abort_transaction(SECONDS)
        else:
            producer.commit_transaction(SECONDS)
    settings = {"group_id": topic, "auto_offset_reset": "earliest", "isolation_level": "read_committed"}
    consumer = Consumer(librdkafka(proxy.bootstrap, **settings))
    try:
        consumer.subscribe([name])
        read = [as_record(message).value for message in consumer.consume(2, SECONDS)]
    finally:
        consumer.close()
    assert read == [b"0", b"2"]


@pytest.mark.broker
def test_log_append_time(cleaning: Cluster, proxy: Proxy, topic: str):
    """The broker's time is what the topic's settings ask for; a rule may refuse it."""
    name = f"record-{topic}"
    cleaning.create_topic(name, config={"message.timestamp.type": "LogAppendTime"})
    librdkafka_produce(proxy.bootstrap, name, [Record(key=b"k", value=b"v", timestamp=T)])
    (stored,), (opened,) = librdkafka_read(cleaning.bootstrap, name), librdkafka_read(proxy.bootstrap, name)
    assert opened.timestamp == stored.timestamp != T
    strict = [{"match": "*", "timestamps": "create"}]
    with (
        kveil_proxy(cleaning.bootstrap, keys=proxy.keys, topics=strict) as other,
        RawClient(other.bootstrap) as client,
    ):
        assert client.fetch(name).error == 2
        assert "timestamps are the broker's" in other.wait_for_event("batch_unopened")["reason"]
