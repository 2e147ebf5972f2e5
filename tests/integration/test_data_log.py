"""What becomes of a log on the broker: deleted records, cut answers, small segments, the log cleaner, a crash.

The same is done to a topic that was written past the proxy, and readers must see the same of both.
"""

import random
import time
from collections.abc import Iterator, Sequence

import pytest
from confluent_kafka import Producer
from confluent_kafka import TopicPartition as Place
from confluent_kafka.admin import AdminClient

from kveil.protocol.kafka.record_batch import BatchHeader, read_header
from tests.conftest import shared_cluster
from tests.support import java
from tests.support.clients import (
    Record,
    aiokafka_read,
    librdkafka,
    librdkafka_produce,
    librdkafka_read,
)
from tests.support.kafka import Cluster, kafka_cluster
from tests.support.proxy import Proxy, kveil_proxy
from tests.support.raw_client import RawClient, batch
from tests.support.storage import topic_segments

SECONDS = 60.0
T = 1_700_000_000_000
OFFSET_OUT_OF_RANGE = 1
LEVELS = ("read_committed", "read_uncommitted")


@pytest.fixture(scope="module")
def own() -> Iterator[Cluster]:
    """A node whose log cleaner looks often, and which may crash."""
    yield from shared_cluster(kafka_cluster(properties={"log.cleaner.backoff.ms": 100}))


@pytest.fixture(scope="module")
def own_proxy(own: Cluster) -> Iterator[Proxy]:
    with kveil_proxy(own.bootstrap) as running:
        yield running


Ways = tuple[tuple[str, str], tuple[str, str]]


def ways(kafka: Cluster, proxy: Proxy, topic: str, **config: object) -> Ways:
    """Two topics, and how each is reached: directly, and through the proxy."""
    names = (f"{topic}-direct", f"{topic}-sealed")
    for name in names:
        kafka.create_topic(name, config=config)
    return (kafka.bootstrap, names[0]), (proxy.bootstrap, names[1])


def produce_batches(bootstrap: str, topic: str, batches: Sequence[bytes]) -> None:
    with RawClient(bootstrap) as client:
        for each in batches:
            assert client.produce({topic: {0: each}})[topic, 0][0] == 0


def of_size(count: int, size: int, records: int = 10) -> list[bytes]:
    """Batches that don't shrink."""
    noise = random.Random(count)
    return [batch([noise.randbytes(size) for _ in range(records)], timestamp_ms=T + at) for at in range(count)]


@pytest.mark.parametrize("start", [1, 13, 19, 20, 30])
async def test_a_log_that_starts_in_the_middle_of_a_batch(kafka: Cluster, proxy: Proxy, topic: str, start: int):
    """Records before it are gone for every reader, though the broker still hands out the batch that has them."""
    seen = []
    for bootstrap, name in ways(kafka, proxy, topic):
        produce_batches(bootstrap, name, of_size(3, 10))
        admin, place = AdminClient({"bootstrap.servers": bootstrap}), Place(name, 0, start)
        admin.delete_records([place])[place].result(SECONDS)
        with RawClient(bootstrap) as client:
            answers = [client.fetch(name, offset=at) for at in (0, start - 1, start, 30)]
        read = librdkafka_read(bootstrap, name)
        assert [record.offset for record in read] == list(range(start, 30))
        assert [record.offset for record in await aiokafka_read(bootstrap, name)] == list(range(start, 30))
        seen.append(([(each.error, each.values) for each in answers], read))
    assert seen[1] == seen[0]
    assert [error for error, _ in seen[0][0]] == [OFFSET_OUT_OF_RANGE, OFFSET_OUT_OF_RANGE, 0, 0]


async def test_answers_that_end_in_the_middle_of_a_batch(kafka: Cluster, proxy: Proxy, topic: str):
    """A broker fills an answer to the byte. Clients get whole batches, never none, and read on from there."""
    seen = []
    for bootstrap, name in ways(kafka, proxy, topic):
        produce_batches(bootstrap, name, of_size(20, 30))
        seen.append(librdkafka_read(bootstrap, name, fetch_message_max_bytes=1000))
        assert await aiokafka_read(bootstrap, name, max_partition_fetch_bytes=1000) == seen[-1]
    assert len(seen[0]) == 200
    assert seen[1] == seen[0]
    cuts = 0
    with RawClient(kafka.bootstrap) as direct, RawClient(proxy.bootstrap) as client:
        for limit in range(1, 2000, 97):
            stored = direct.fetch(name, offset=15, max_bytes=limit)
            opened = client.fetch(name, offset=15, max_bytes=limit)
            cuts += len(stored.records) > sum(map(len, stored.batches))
            assert sum(map(len, opened.batches)) == len(opened.records)
            assert len(opened.batches) == len(stored.batches) > 0
    assert cuts > 10


def test_many_segments(kafka: Cluster, proxy: Proxy, topic: str):
    """An answer ends with its segment; readers go on with the next."""
    seen = []
    for bootstrap, name in ways(kafka, proxy, topic, **{"segment.bytes": 1 << 20}):
        produce_batches(bootstrap, name, of_size(40, 9_000))
        assert len(list(topic_segments(kafka.data_dirs, name))) >= 4
        seen.append(librdkafka_read(bootstrap, name))
    assert len(seen[0]) == 400
    assert seen[1] == seen[0]


# The log cleaner -----------------------------------------------------------------------------------------------------


def transactional(bootstrap: str, transactional_id: str) -> Producer:
    producer = Producer(librdkafka(bootstrap, transactional_id=transactional_id))
    producer.init_transactions(SECONDS)
    return producer


def write(producer: Producer, topic: str, text: str) -> None:
    producer.begin_transaction()
    for number in range(3):
        producer.produce(topic, f"{text} {number}".encode(), key=b"%d" % number, partition=0, timestamp=T)
    assert producer.flush(SECONDS) == 0


def later(bootstrap: str, topic: str, seconds: int) -> None:
    """Write a record from so far in the future that a new segment begins: only those before it are cleaned."""
    record = Record(key=b"later %d" % seconds, value=b"later", timestamp=int(time.time() + seconds) * 1000)
    librdkafka_produce(bootstrap, topic, [record])


def stored_headers(kafka: Cluster, topic: str) -> list[BatchHeader]:
    """The headers of all batches, segment after segment."""
    found: list[BatchHeader] = []
    with RawClient(kafka.bootstrap) as direct:
        while batches := direct.fetch(topic, offset=found[-1].next_offset if found else 0).batches:
            found += map(read_header, batches)
    return found


@pytest.mark.broker
def test_empty_batches_of_the_log_cleaner(own: Cluster, own_proxy: Proxy, topic: str):
    """It drops aborted records and old markers, and keeps the headers of producers' last batches without them.

    A marker that fences a producer off is the last of its epoch, so that it becomes such a header too.
    """
    both = ways(own, own_proxy, topic, **{"segment.ms": 1000})
    for bootstrap, name in both:
        producer = transactional(bootstrap, name)
        write(producer, name, "committed")
        producer.commit_transaction(SECONDS)
        write(producer, name, "fenced")
        transactional(bootstrap, name)
        other = transactional(bootstrap, f"{name}-other")
        write(other, name, "aborted")
        other.abort_transaction(SECONDS)
        later(bootstrap, name, 10)
        clean = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.0", "delete.retention.ms": "1"}
        own.alter_topic_config(name, clean)
    for round_ in range(2, 20):
        seen = [stored_headers(own, name) for _, name in both]
        if all(empty_kinds(headers) == {False, True} for headers in seen):
            break
        for bootstrap, name in both:
            later(bootstrap, name, 10 * round_)  # single records have keys, so that a compacted topic takes them
        wait_for_a_pass(own, both, seen)
    else:
        raise AssertionError(seen)
    for level in LEVELS:
        direct, opened = (
            [(record.offset, record.value) for record in librdkafka_read(bootstrap, name, isolation_level=level)]
            for bootstrap, name in both
        )
        assert opened == direct
        assert [value for _, value in direct[:4]] == [b"committed 0", b"committed 1", b"committed 2", b"later"]
    assert java_values(*both[1], len(direct)) == [f"Offset:{offset}\t{value.decode()}" for offset, value in direct]
    assert not [line for line in own_proxy.events("batch_unopened") if line["topic"] == both[1][1]]


def empty_kinds(headers: Sequence[BatchHeader]) -> set[bool]:
    """Whether there are empty batches: data's (False), markers' (True)."""
    return {header.is_control for header in headers if not header.record_count}


def wait_for_a_pass(kafka: Cluster, both: Ways, before: Sequence[Sequence[BatchHeader]]) -> None:
    """Wait a while for the cleaner to have changed what is before the newest records."""
    deadline = time.monotonic() + 2.0
    while time.monotonic() < deadline:
        now = [stored_headers(kafka, name) for _, name in both]
        if all(later_[: len(old)] != list(old) for later_, old in zip(now, before, strict=True)):
            return


def java_values(bootstrap: str, topic: str, count: int) -> list[str]:
    reach = ("--bootstrap-server", bootstrap, "--topic", topic, "--from-beginning", "--isolation-level", LEVELS[0])
    limits = ("--max-messages", str(count), "--timeout-ms", "30000", "--formatter-property", "print.offset=true")
    return java.java_tool(java.CONSOLE_CONSUMER, *reach, *limits).stdout.splitlines()


# A crash -------------------------------------------------------------------------------------------------------------


@pytest.mark.broker
def test_a_log_that_was_cut_by_a_crash(own: Cluster, own_proxy: Proxy, topic: str):
    """The broker drops the last batch, which is only half there, and new ones take its place."""
    both = ways(own, own_proxy, topic)
    for bootstrap, name in both:
        produce_batches(bootstrap, name, of_size(5, 100))
    own.kill_node(0)
    for _, name in both:
        (segment,) = topic_segments(own.data_dirs, name)
        with segment.open("r+b") as file:
            file.truncate(segment.stat().st_size - 10)
    own.start_node(0)
    seen = []
    for bootstrap, name in both:
        assert len(librdkafka_read(bootstrap, name)) == 40
        produce_batches(bootstrap, name, of_size(2, 50))
        seen.append(librdkafka_read(bootstrap, name))
    assert [record.offset for record in seen[0]] == list(range(60))
    assert seen[1] == seen[0]
