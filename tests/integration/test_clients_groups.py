"""Consumer groups, offsets and time lookups through the proxy."""

import time
import uuid
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as AioPlace
from confluent_kafka import OFFSET_END, Consumer
from confluent_kafka import TopicPartition as Place
from confluent_kafka.admin import AdminClient, OffsetSpec

from tests.support import java
from tests.support.clients import Record, librdkafka, librdkafka_produce
from tests.support.kafka import Cluster
from tests.support.proxy import Proxy

SECONDS = 60.0
T = 1_700_000_000_000
PROTOCOLS = ("classic", pytest.param("consumer", marks=pytest.mark.kafka4))


def consumer_of(bootstrap: str, group: str, protocol: str = "classic", **more: Any) -> Consumer:
    usual = {"auto_offset_reset": "earliest", "enable_auto_commit": False, "fetch_wait_max_ms": 50}
    return Consumer(librdkafka(bootstrap, group_id=group, group_protocol=protocol, **usual, **more))


def values_of(consumer: Consumer, count: int) -> list[bytes | None]:
    messages = consumer.consume(count, SECONDS)
    assert not [message.error() for message in messages if message.error()]
    assert len(messages) == count
    return [message.value() for message in messages]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_committed_offsets(kafka: Cluster, proxy: Proxy, topic: str, protocol: str):
    """In the middle of a sealed batch too: the next member goes on with the next record."""
    kafka.create_topic(topic)
    librdkafka_produce(proxy.bootstrap, topic, [Record(value=b"%d" % n) for n in range(100)], linger_ms=100)
    for start, count in ((0, 7), (7, 50), (57, 43)):
        consumer = consumer_of(proxy.bootstrap, topic, protocol)
        try:
            consumer.subscribe([topic])
            assert values_of(consumer, count) == [b"%d" % n for n in range(start, start + count)]
            consumer.commit(offsets=[Place(topic, 0, start + count)], asynchronous=False)
            assert consumer.committed([Place(topic, 0)], SECONDS)[0].offset == start + count
        finally:
            consumer.close()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_two_members_share_the_partitions(kafka: Cluster, proxy: Proxy, topic: str, protocol: str):
    """They are balanced, and when one leaves the other takes over where it stopped."""
    kafka.create_topic(topic, partitions=4)
    first, second = (consumer_of(proxy.bootstrap, topic, protocol) for _ in range(2))
    left_open = [first, second]
    try:
        wait_for_assignments(topic, [first, second], [2, 2])
        librdkafka_produce(proxy.bootstrap, topic, [Record(value=b"a%d" % n, partition=n % 4) for n in range(40)])
        given = [values_of(consumer, 20) for consumer in (first, second)]
        assert sorted(given[0] + given[1]) == sorted(b"a%d" % n for n in range(40))
        for consumer in (first, second):
            consumer.commit(asynchronous=False)
        left_open.remove(first)
        first.close()
        librdkafka_produce(proxy.bootstrap, topic, [Record(value=b"b%d" % n, partition=n % 4) for n in range(40)])
        assert sorted(values_of(second, 40)) == sorted(b"b%d" % n for n in range(40))
    finally:
        for consumer in left_open:
            consumer.close()


def wait_for_assignments(topic: str, members: list[Consumer], wanted: list[int]) -> None:
    """Poll the members, which have no records yet, until they have that many partitions each."""
    for member in members:
        member.subscribe([topic])
    deadline = time.monotonic() + SECONDS
    while [len(member.assignment()) for member in members] != wanted:
        assert time.monotonic() < deadline
        for member in members:
            assert member.poll(0.05) is None


def test_java_and_librdkafka_in_one_group(kafka: Cluster, proxy: Proxy, topic: str):
    """A group that one client has left is taken up by the other."""
    kafka.create_topic(topic)
    librdkafka_produce(proxy.bootstrap, topic, [Record(value=b"%d" % n) for n in range(20)], linger_ms=100)
    consumer = consumer_of(proxy.bootstrap, topic)
    consumer.subscribe([topic])
    assert len(values_of(consumer, 5)) == 5
    consumer.commit(offsets=[Place(topic, 0, 5)], asynchronous=False)
    consumer.close()
    reach = ("--bootstrap-server", proxy.bootstrap, "--topic", topic, "--group", topic)
    printed = java.java_tool(java.CONSOLE_CONSUMER, *reach, "--max-messages", "15", "--timeout-ms", "60000").stdout
    assert printed.splitlines() == [str(n) for n in range(5, 20)]
    described = java.java_tool(
        java.CONSUMER_GROUPS, "--bootstrap-server", proxy.bootstrap, "--describe", "--group", topic
    ).stdout
    row = next(line.split() for line in described.splitlines() if topic in line)
    assert row[1:6] == [topic, "0", "20", "20", "0"] or row[1:5] == ["0", "20", "20", "0"], described


def test_seek(kafka: Cluster, proxy: Proxy, topic: str):
    """Every offset can be the first: the batch that it is in comes whole, and the client drops what is before."""
    kafka.create_topic(topic)
    for start in range(0, 60, 20):
        more = [Record(value=b"%d" % n) for n in range(start, start + 20)]
        librdkafka_produce(proxy.bootstrap, topic, more, linger_ms=50)
    consumer = consumer_of(proxy.bootstrap, uuid.uuid4().hex)
    consumer.assign([Place(topic, 0, 59)])
    try:
        assert values_of(consumer, 1) == [b"59"]
        for offset in (0, 1, 19, 20, 21, 39, 40, 58):
            consumer.seek(Place(topic, 0, offset))
            assert values_of(consumer, 2) == [b"%d" % offset, b"%d" % (offset + 1)]
        assert consumer.get_watermark_offsets(Place(topic, 0), SECONDS) == (0, 60)
    finally:
        consumer.close()


STAMPS = [[0, 10, 20], [30, 25, 40], [41, 41, 41], [60, 50, 55]]
"""Milliseconds after T, of four batches; inside a batch they need not grow."""


@pytest.fixture(scope="module")
def timed(kafka: Cluster, proxy: Proxy) -> tuple[str, str]:
    """The same batches directly and through the proxy."""
    names = (f"timed-direct-{uuid.uuid4().hex}", f"timed-sealed-{uuid.uuid4().hex}")
    for name, bootstrap in zip(names, (kafka.bootstrap, proxy.bootstrap), strict=True):
        kafka.create_topic(name)
        for stamps in STAMPS:
            records = [Record(value=b"%d" % stamp, timestamp=T + stamp) for stamp in stamps]
            librdkafka_produce(bootstrap, name, records, linger_ms=200)
    return names


def check_lookup(asked: int, exact: int, given: int) -> None:
    """A lookup may come early, to the beginning of the right batch; never late, and never in an earlier batch."""
    if exact < 0:
        assert given == exact, f"{asked} is after the last record"
    else:
        assert exact - exact % 3 <= given <= exact, f"{asked} is at {exact}, {given} was given"


def test_offsets_for_times(kafka: Cluster, proxy: Proxy, timed: tuple[str, str]):
    looked_up = []
    for name, bootstrap in zip(timed, (kafka.bootstrap, proxy.bootstrap), strict=True):
        consumer = consumer_of(bootstrap, uuid.uuid4().hex)
        asked = range(-1, 63)
        found = [consumer.offsets_for_times([Place(name, 0, T + stamp)], SECONDS)[0].offset for stamp in asked]
        looked_up.append(found)
        consumer.close()
    for stamp, exact, given in zip(asked, *looked_up, strict=True):
        check_lookup(stamp, -1 if exact == OFFSET_END else exact, -1 if given == OFFSET_END else given)


async def test_aiokafka_offsets_for_times(kafka: Cluster, proxy: Proxy, timed: tuple[str, str]):
    places = [AioPlace(name, 0) for name in timed]
    async with (
        AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap) as direct,
        AIOKafkaConsumer(bootstrap_servers=proxy.bootstrap) as sealed,
    ):
        for stamp in (0, 20, 21, 26, 41, 42, 60, 61):
            exact = (await direct.offsets_for_times({places[0]: T + stamp}))[places[0]]
            given = (await sealed.offsets_for_times({places[1]: T + stamp}))[places[1]]
            check_lookup(stamp, exact.offset if exact else -1, given.offset if given else -1)


def test_the_latest_timestamp(kafka: Cluster, proxy: Proxy, timed: tuple[str, str]):
    """The batch that has it is found (KIP-734), and the time itself is right."""
    place = Place(timed[1], 0)
    admin = AdminClient({"bootstrap.servers": proxy.bootstrap})
    found = admin.list_offsets({place: OffsetSpec.max_timestamp()})[place].result(SECONDS)
    assert found.offset == 9
    assert found.timestamp == T + 60


def test_java_time_lookup(kafka: Cluster, proxy: Proxy, timed: tuple[str, str]):
    for stamp, exact in ((0, 0), (30, 3), (41, 6), (55, 9)):
        reach = ("--bootstrap-server", proxy.bootstrap, "--topic", timed[1], "--time", str(T + stamp))
        said = java.java_tool(java.GET_OFFSETS, *reach)
        assert said.stdout.startswith(f"{timed[1]}:0:"), said.stdout + said.stderr
        given = int(said.stdout.rsplit(":", 1)[1])
        check_lookup(stamp, exact, given)
