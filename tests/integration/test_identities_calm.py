"""Stream positions with a real broker and real clients: what is honest raises no alarm, and every record arrives.

One producing and one consuming proxy serve most of it. The last test has the producing one end, which makes its last
beacon, and reads all topics once more: nothing that was vouched for is missing then.
"""

import asyncio
import random
import signal
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from kveil.protocol.envelope.stream import GRACE_SECONDS
from kveil.protocol.identity import CONTROL_TOPIC
from kveil.protocol.identity.crypto import KemSuite
from tests.conftest import shared_cluster
from tests.integration.test_data_record_mode import COMPACTED
from tests.integration.test_identities import proxy_of
from tests.support import java
from tests.support.clients import (
    Record,
    aiokafka_produce,
    aiokafka_read,
    librdkafka,
    librdkafka_produce,
    librdkafka_read,
)
from tests.support.kafka import Cluster, kafka_cluster
from tests.support.members import Members, control_writer
from tests.support.proxy import Proxy, kveil_proxy
from tests.support.raw_client import RawClient, batch
from tests.support.realm import Node, consumes, produces
from tests.support.steady import SteadyConsumer, read_all, steady_consumer, steady_producer
from tests.support.storage import topic_segments
from tests.support.tampering import Relay
from tests.support.waiting import wait_until

SECONDS = 60.0
TOO_LARGE = "MESSAGE_TOO_LARGE"
BEHIND_IT = "OUT_OF_ORDER_SEQUENCE_NUMBER"
RESTLESS = {
    "log.initial.task.delay.ms": 100,
    "log.cleaner.backoff.ms": 50,
    "log.segment.delete.delay.ms": 0,
    "log.retention.check.interval.ms": 200,
}
"""A broker whose log cleaner doesn't rest, nor who deletes old segments."""


@dataclass
class Scene:
    """A realm with a producing and a consuming proxy, and the topics that were left to read again."""

    kafka: Cluster
    members: Members
    writer: Node
    reader: Node
    shop: Proxy
    billing: Proxy
    topics: list[str] = field(default_factory=list)

    def topic(self, name: str, **settings: object) -> str:
        """A new one, with one partition."""
        self.kafka.create_topic(name, config=settings)
        self.topics.append(name)
        return name


def assert_calm(*proxies: Proxy, refused: Sequence[str] = (), notices: Sequence[str] = ()) -> None:
    """No alarm, nothing that didn't open, and no notice, and no batch refused, but what is named."""
    for proxy in proxies:
        events = proxy.log()
        names = Counter(line["event"] for line in events)
        assert [line for line in events if line["event"] in {"stream_alarm", "batch_unopened"}] == []
        assert {line["kind"] for line in events if line["event"] == "stream_restarted"} <= set(notices)
        types = [line["cloudevent"]["type"] for line in events if line["event"] == "audit"]
        assert not [one for one in types if one.endswith(("stream.alarm", "batch.refused", "identity.alarm"))]
        errors = {line["error"] for line in events if line["event"] == "produce_refused"}
        assert errors <= set(refused), names


@pytest.fixture(scope="module")
def kafka() -> Iterator[Cluster]:
    yield from shared_cluster(kafka_cluster(properties=RESTLESS))  # a test has it crash


@pytest.fixture(scope="module")
def scene(kafka: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    kafka.create_topic(CONTROL_TOPIC, config={"cleanup.policy": "compact"})
    with ExitStack() as stack:
        write = stack.enter_context(control_writer(kafka.bootstrap))
        folder: Path = tmp_path_factory.mktemp("realm")
        members = Members(folder, write, now=int(time.time()), suite=KemSuite.X25519)
        reader, writer = members.join("billing", consumes("*")), members.join("shop", produces("*"))
        rules = {"topics": [{"match": "*", "keys": "clear"}]}
        shop, billing = (stack.enter_context(proxy_of(kafka, members, node, **rules)) for node in (writer, reader))
        yield Scene(kafka, members, writer, reader, shop, billing)


@pytest.fixture
def calm(scene: Scene) -> Iterator[Scene]:
    """The scene, in which nothing is refused and no alarm is raised."""
    yield scene
    assert_calm(scene.shop, scene.billing)


def values(read: Sequence[Record]) -> list[int]:
    return [int(one.value or b"-1") for one in read]


def some(count: int, start: int = 0) -> list[Record]:
    return [Record(value=b"%d" % number) for number in range(start, start + count)]


@contextmanager
def proxies(
    scene: Scene,
    upstream: str | None = None,
    *,
    refused: Sequence[str] = (),
    notices: Sequence[str] = (),
    **more: object,
) -> Iterator[tuple[Proxy, Proxy]]:
    """Two of the same members with other settings, on other hosts."""
    with ExitStack() as stack:
        pair = []
        for node in (scene.writer, scene.reader):
            identity = {"keys": {"provider": "identities"}, "identity": {"path": str(scene.members.path(node))}}
            config = {**identity, **more}
            keys = scene.members.folder / "none.json"
            pair.append(stack.enter_context(kveil_proxy(upstream or scene.kafka.bootstrap, keys=keys, config=config)))
        yield pair[0], pair[1]
        assert_calm(*pair, refused=refused, notices=notices)


# Producers -------------------------------------------------------------------------------------------------------


class CuttingRelay(Relay):
    """Cuts all connections when told to. What was sent may have arrived, and its answer not."""

    def cut(self) -> None:
        def abort() -> None:
            for writer in self._writers:
                writer.transport.abort()

        self._loop.call_soon_threadsafe(abort)


def test_connections_that_are_cut(calm: Scene, topic: str):
    calm.topic(topic)
    relay = CuttingRelay(int(calm.kafka.bootstrap.rpartition(":")[2]))
    relay.start()
    try:
        with (
            proxies(calm, relay.address) as (shop, _),
            steady_producer(shop.bootstrap, topic) as producer,
            steady_consumer(calm.billing.bootstrap, topic) as consumer,
        ):
            for _ in range(8):
                producer.wait_for_more(20)
                relay.cut()
            sent = producer.finish()
            consumer.wait_for(sent)
            assert consumer.values[0] == list(range(sent))
            shop.stop()  # with its last beacon
            time.sleep(GRACE_SECONDS + 1)  # as long as a beacon waits for what it names
            assert read_all(calm.billing.bootstrap, topic)[0] == list(range(sent))
    finally:
        relay.close()


def test_producers_of_all_kinds_in_one_partition(calm: Scene, topic: str):
    """With ids and without, with all acknowledgements, one, and none."""
    calm.topic(topic)
    kinds = [{"enable_idempotence": True}] * 2
    kinds += [{"enable_idempotence": False, "acks": acks} for acks in ("all", "1", "0")]
    with ExitStack() as stack:
        consumer = stack.enter_context(steady_consumer(calm.billing.bootstrap, topic))
        producers = [stack.enter_context(steady_producer(calm.shop.bootstrap, topic, **kind)) for kind in kinds]
        for producer in producers:
            producer.wait_for_more(100)
        sent = [producer.finish() for producer in producers]
        consumer.wait_for(sum(sent))
        expected = sorted(value for count in sent for value in range(count))
        assert sorted(consumer.values[0]) == expected
        assert sorted(read_all(calm.billing.bootstrap, topic)[0]) == expected


async def test_aiokafka(calm: Scene, topic: str):
    calm.topic(topic)
    for start, more in ((0, {"enable_idempotence": True}), (100, {"acks": 1}), (200, {"acks": 0})):
        await aiokafka_produce(calm.shop.bootstrap, topic, some(100, start), **more)
    wait_until(lambda: len(librdkafka_read(calm.billing.bootstrap, topic)) == 300)
    assert values(await aiokafka_read(calm.billing.bootstrap, topic)) == list(range(300))


@pytest.mark.parametrize("level", ["read_committed", "read_uncommitted"])
async def test_transactions(calm: Scene, topic: str, level: str):
    """Committed, aborted, and open for a while."""
    calm.topic(topic)
    first, second = (Producer(librdkafka(calm.shop.bootstrap, transactional_id=f"{topic}-{one}")) for one in "ab")
    number, kept = 0, []
    for producer in (first, second):
        producer.init_transactions(SECONDS)
    for commits in [(True, False), (False, True), (True, True), (False, False), (True, False)] * 2:
        for producer in (first, second):
            producer.begin_transaction()
        for _ in range(5):
            for producer, commit in zip((first, second), commits, strict=True):
                producer.produce(topic, b"%d" % number, partition=0)
                kept += [number] if commit or level == "read_uncommitted" else []
                number += 1
                producer.flush(SECONDS)
        assert len(librdkafka_read(calm.billing.bootstrap, topic, isolation_level=level)) <= len(kept)
        for producer, commit in zip((first, second), commits, strict=True):
            (producer.commit_transaction if commit else producer.abort_transaction)(SECONDS)
    first.close()
    second.close()
    assert values(librdkafka_read(calm.billing.bootstrap, topic, isolation_level=level)) == kept
    assert values(await aiokafka_read(calm.billing.bootstrap, topic, isolation_level=level)) == kept
    reach = ("--bootstrap-server", calm.billing.bootstrap, "--topic", topic, "--isolation-level", level)
    limits = ("--from-beginning", "--max-messages", str(len(kept)), "--timeout-ms", "30000")
    got = java.java_tool(java.CONSOLE_CONSUMER, *reach, *limits).stdout.split()
    assert [int(one) for one in got] == kept


def test_batches_that_are_split(calm: Scene, topic: str):
    """By Java's producer, once it is told that they are too large."""
    calm.topic(topic, **{"max.message.bytes": 20_000})
    lines = [random.Random(number).randbytes(500).hex() for number in range(400)]
    with proxies(calm, refused=[TOO_LARGE, BEHIND_IT]) as (shop, billing):
        properties = ("batch.size=100000", "linger.ms=500", "enable.idempotence=true", "acks=all")
        reach = ("--bootstrap-server", shop.bootstrap, "--topic", topic)
        more = [word for one in properties for word in ("--command-property", one)]
        java.java_tool(java.CONSOLE_PRODUCER, *reach, *more, stdin="".join(f"{line}\n" for line in lines))
        assert any(line["error"] == TOO_LARGE for line in shop.events("produce_refused"))
        for proxy in (calm.billing, billing):
            assert [one.value for one in librdkafka_read(proxy.bootstrap, topic)] == [line.encode() for line in lines]


def test_full_batches_of_small_records(calm: Scene, topic: str):
    """Sealed one by one, each record has a signature and a position of its own: there is room for those."""
    calm.topic(topic)
    rules = [{"match": "*", "mode": "record", "keys": "clear", "raise_message_limit": True}]
    small = [Record(value=b"%010d" % number) for number in range(20_000)]
    with proxies(calm, topics=rules) as (shop, billing):
        more = {"batch_num_messages": 1_000_000, "linger_ms": 2000, "enable_idempotence": True}
        librdkafka_produce(shop.bootstrap, topic, small, **more)
        assert values(librdkafka_read(billing.bootstrap, topic)) == list(range(20_000))
    assert max(map(len, stored_batches(calm, topic))) > 4 * 1_048_588, "more than there was room for"


def stored_batches(scene: Scene, topic: str) -> list[bytes]:
    with RawClient(scene.kafka.bootstrap) as direct:
        return direct.fetch(topic).batches


def test_keys_that_change_in_the_middle(calm: Scene, topic: str):
    calm.topic(topic)
    with (
        steady_producer(calm.shop.bootstrap, topic) as producer,
        steady_consumer(calm.billing.bootstrap, topic) as consumer,
    ):
        for _ in range(4):
            producer.wait_for_more(50)
            before = len(calm.shop.events("audit"))
            calm.shop.signal(signal.SIGHUP)
            wait_until(lambda: len(calm.shop.events("audit")) > before)  # noqa: B023 - at once
        producer.wait_for_more(50)
        sent = producer.finish()
        consumer.wait_for(sent)
        assert consumer.values[0] == list(range(sent))
        kids = {line["cloudevent"]["data"].get("kid") for line in calm.shop.events("audit")} - {None}
        assert len(kids) >= 3


# Processes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_processes_that_end(calm: Scene, topic: str, workers: int):
    """Both proxies, in any way, while a producer and a consumer go on."""
    calm.topic(topic)
    with (
        proxies(calm, workers=workers) as (shop, billing),
        steady_producer(shop.bootstrap, topic) as producer,
        steady_consumer(billing.bootstrap, topic) as consumer,
    ):
        for proxy, end in ((shop, "stop"), (billing, "kill"), (shop, "kill"), (billing, "stop")):
            producer.wait_for_more(30)
            consumer.wait_for(consumer.count + 10)
            assert_calm(proxy)
            getattr(proxy, end)()
            proxy.start()
        producer.wait_for_more(30)
        sent = producer.finish()
        consumer.wait_for(sent)
        assert set(consumer.values[0]) == set(range(sent)), "some may come twice: a group's offsets are behind"
        shop.stop()
        time.sleep(GRACE_SECONDS + 1)
        assert read_all(billing.bootstrap, topic)[0] == list(range(sent))


# Consumers -------------------------------------------------------------------------------------------------------


def test_a_group_whose_members_come_and_go(calm: Scene, topic: str):
    calm.kafka.create_topic(topic, 3)
    group = {"group_id": topic, "session_timeout_ms": 6000}
    with ExitStack() as stack:
        producer = stack.enter_context(steady_producer(calm.shop.bootstrap, topic, partitions=3))
        stays = stack.enter_context(steady_consumer(calm.billing.bootstrap, topic, **group))
        came: list[SteadyConsumer] = [stays]
        for _ in range(3):
            with steady_consumer(calm.billing.bootstrap, topic, **group) as guest:
                came.append(guest)
                producer.wait_for_more(100)
                guest.wait_for(1)
        sent = producer.finish()
        wanted = set(range(sent))
        wait_until(lambda: wanted == {one for each in came for got in list(each.values.values()) for one in list(got)})
        everything = read_all(calm.billing.bootstrap, topic, 3)
        assert sorted(value for partition in everything.values() for value in partition) == list(range(sent))


def test_reading_from_anywhere(calm: Scene, topic: str):
    """Again, backwards, by several consumers, and while more is written."""
    calm.topic(topic)
    chance = random.Random(3)
    consumers = [Consumer(librdkafka(calm.billing.bootstrap, group_id=uuid.uuid4().hex)) for _ in range(3)]
    count = 0
    try:
        for round_ in range(6):
            librdkafka_produce(calm.shop.bootstrap, topic, some(100, count), linger_ms=0, batch_num_messages=7)
            count += 100
            for consumer in consumers:
                start = chance.randrange(count)
                consumer.assign([TopicPartition(topic, 0, start)])
                wanted = chance.randrange(1, count - start + 1)
                got: list[int] = []
                deadline = time.monotonic() + SECONDS
                while len(got) < wanted:
                    assert time.monotonic() < deadline, (round_, len(got), wanted)
                    got += [int(message.value() or b"-1") for message in consumer.consume(wanted - len(got), 0.5)]
                assert got == list(range(start, start + wanted))
    finally:
        for consumer in consumers:
            consumer.close()
    assert values(librdkafka_read(calm.billing.bootstrap, topic)) == list(range(count))


# The log ---------------------------------------------------------------------------------------------------------


def test_a_compacted_topic(calm: Scene, topic: str):
    """Sealed record by record, since it is compacted; the log cleaner takes what is older of each key."""
    calm.topic(topic, **COMPACTED)
    sent = [Record(key=b"%d" % (number % 10), value=b"%d" % number) for number in range(300)]
    for start in range(0, 300, 100):
        librdkafka_produce(calm.shop.bootstrap, topic, sent[start : start + 100], linger_ms=5)
        assert len(librdkafka_read(calm.billing.bootstrap, topic)) <= 300
    deadline = time.monotonic() + SECONDS
    while len(left := [one for one in librdkafka_read(calm.billing.bootstrap, topic) if one.key != b"end"]) > 10:
        assert time.monotonic() < deadline, f"{len(left)} records are left"
        librdkafka_produce(calm.shop.bootstrap, topic, [Record(key=b"end", value=b"0")])  # closes the active segment
    assert sorted(values(left)) == list(range(290, 300))
    assert {one.key: one.value for one in left} == {one.key: one.value for one in sent}


def test_retention(calm: Scene, topic: str):
    """Records that are deleted, and segments that are."""
    calm.topic(topic, **{"segment.bytes": 1 << 20})
    big = [Record(value=(b"%d" % number).ljust(10_000)) for number in range(400)]
    librdkafka_produce(calm.shop.bootstrap, topic, big[:200])
    assert len(librdkafka_read(calm.billing.bootstrap, topic)) == 200
    admin = AdminClient({"bootstrap.servers": calm.kafka.bootstrap})
    (deleted,) = admin.delete_records([TopicPartition(topic, 0, 50)]).values()
    assert deleted.result(SECONDS).low_watermark == 50
    assert values(librdkafka_read(calm.billing.bootstrap, topic)) == list(range(50, 200))
    librdkafka_produce(calm.shop.bootstrap, topic, big[200:])
    segments = len(list(topic_segments(calm.kafka.data_dirs, topic)))
    calm.kafka.alter_topic_config(topic, {"retention.bytes": 1 << 20})
    wait_until(lambda: len(list(topic_segments(calm.kafka.data_dirs, topic))) < segments)
    left = values(librdkafka_read(calm.billing.bootstrap, topic))
    assert left == list(range(left[0], 400))
    assert 50 < left[0] < 400


def test_a_topic_that_is_made_again(calm: Scene, topic: str):
    """Under its name, for clients that name topics by name, and for those that use ids."""
    with ExitStack() as stack:
        shop, billing = stack.enter_context(proxies(calm, notices=["remade"]))
        writer, reader = (stack.enter_context(RawClient(proxy.bootstrap)) for proxy in (shop, billing))
        for life in range(3):
            calm.kafka.create_topic(topic)
            for client in (writer, reader):
                client.leaders(topic, 1)  # as clients do when they are told that a topic isn't where it was
            sent = [Record(value=b"%d" % number) for number in range(100 * life, 100 * life + 40)]
            for record in sent[:20]:
                assert writer.produce({topic: {0: batch([record.value])}})[topic, 0][0] == 0
            librdkafka_produce(shop.bootstrap, topic, sent[20:])
            for _ in range(2):
                assert [value for _, value in reader.fetch(topic).values] == [one.value for one in sent]
                assert values(librdkafka_read(billing.bootstrap, topic)) == values(sent)
                assert values(asyncio.run(aiokafka_read(billing.bootstrap, topic))) == values(sent)
            reach = ("--bootstrap-server", billing.bootstrap, "--topic", topic, "--from-beginning")
            limits = ("--max-messages", "40", "--timeout-ms", "30000")
            assert java.java_tool(java.CONSOLE_CONSUMER, *reach, *limits).stdout.split() == [
                str(one) for one in values(sent)
            ]
            if life < 2:
                calm.kafka.delete_topic(topic)
        assert len(billing.events("stream_restarted")) == 2
        shop.stop()
        time.sleep(GRACE_SECONDS + 1)
        assert [value for _, value in reader.fetch(topic).values] == [one.value for one in sent]
        assert_calm(billing, notices=["remade"])
        billing.stop()
        billing.start()  # it knows of beacons, and of no other topic of that name
        for _ in range(2):
            assert values(librdkafka_read(billing.bootstrap, topic)) == values(sent)
            time.sleep(GRACE_SECONDS + 1)


def test_a_log_that_was_cut_back(scene: Scene, topic: str):
    """By a crash: the last batch is only half there, and another one takes its place, under a later leader.

    It is told, as is what is missing. Nothing is refused.
    """
    scene.kafka.create_topic(topic)
    with ExitStack() as stack:
        nodes = scene.writer, scene.reader
        shop, billing = (stack.enter_context(proxy_of(scene.kafka, scene.members, node)) for node in nodes)
        with RawClient(shop.bootstrap) as client:
            for number in range(5):
                assert client.produce({topic: {0: batch([b"%d" % number])}})[topic, 0] == (0, number)
        assert values(librdkafka_read(billing.bootstrap, topic)) == [0, 1, 2, 3, 4]
        scene.kafka.kill_node(0)
        (segment,) = topic_segments(scene.kafka.data_dirs, topic)
        with segment.open("r+b") as file:
            file.truncate(segment.stat().st_size - 10)
        scene.kafka.start_node(0)
        with RawClient(shop.bootstrap) as client:
            for number in (5, 6):
                assert client.produce({topic: {0: batch([b"%d" % number])}})[topic, 0] == (0, number - 1)
        for _ in range(2):
            assert values(librdkafka_read(billing.bootstrap, topic)) == [0, 1, 2, 3, 5, 6]
        (cut,) = billing.events("stream_restarted")
        assert (cut["kind"], cut["offset"]) == ("cut", 4)
        assert not billing.events("batch_unopened")
        assert {line["kind"] for line in billing.events("stream_alarm")} <= {"gap"}


# The end ---------------------------------------------------------------------------------------------------------


def test_at_last_all_that_was_vouched_for_is_there(scene: Scene):
    """The last beacon names how far each lane is. Nothing may be taken for withheld."""
    if not scene.topics:
        pytest.skip("alone it has nothing to read")
    scene.shop.stop()
    for wait in (0.5, GRACE_SECONDS + 1):
        time.sleep(wait)  # first it is heard, then it has waited long enough
        for name in scene.topics:
            librdkafka_read(scene.billing.bootstrap, name)
    assert_calm(scene.shop, scene.billing)
