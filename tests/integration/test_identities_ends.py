"""A producer is revoked on a real cluster: what it had sealed still opens, and what is sealed later doesn't."""

import asyncio
import json
import subprocess
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from confluent_kafka import KafkaError

from kveil.protocol.identity import CONTROL_TOPIC
from kveil.protocol.identity.beacon import Beacon
from kveil.protocol.identity.checkpoint import Checkpoint
from kveil.protocol.identity.enrolment import Enrolment
from kveil.protocol.identity.errors import IdentityError
from kveil.protocol.identity.marks import Kept
from kveil.protocol.identity.record import decode_record
from kveil.protocol.kafka.record_batch import read_header
from kveil.proxy.net import following
from kveil.proxy.net.authority import ANSWER_SECONDS
from tests.integration.test_identities import proxy_of
from tests.support.announced import TOPIC, World
from tests.support.clients import Record, librdkafka_produce, librdkafka_read, librdkafka_refusal
from tests.support.control_log import KeyValue
from tests.support.conversation import Clock
from tests.support.ends import authority_of
from tests.support.kafka import Cluster, kafka_cluster
from tests.support.members import Members, Write, control_writer
from tests.support.proxy import Proxy, kveil
from tests.support.raw_client import RawClient
from tests.support.realm import consumes, produces
from tests.support.records import client_batch
from tests.support.told import Member
from tests.support.waiting import wait_until

CORRUPT_MESSAGE = 2


@pytest.fixture(scope="module")
def kafka() -> Iterator[Cluster]:
    """A cluster for these tests alone: its control topic, and each test's realm on it, are theirs."""
    with kafka_cluster() as cluster:
        cluster.create_topic(CONTROL_TOPIC, config={"cleanup.policy": "compact"})
        yield cluster


@pytest.fixture
def write(kafka: Cluster) -> Iterator[Write]:
    with control_writer(kafka.bootstrap) as made:
        yield made


@pytest.fixture
def members(write: Write, tmp_path: Path) -> Members:
    return Members(tmp_path, write, now=int(time.time()), name=f"realm-{uuid.uuid4().hex[:8]}")


@pytest.fixture
def orders(kafka: Cluster, topic: str) -> str:
    name = f"orders-{topic}"
    kafka.create_topic(name, 2)
    return name


def revoke(kafka: Cluster, directory: Path, name: str, *options: str) -> subprocess.CompletedProcess[str]:
    reach = ("--authority", str(directory), "--upstream", kafka.bootstrap)
    done = kveil("authority", "revoke", name, *reach, *options)
    assert done.returncode == 0, done.stderr
    return done


def produce(proxy: Proxy, topic: str, count: int) -> list[bytes]:
    values = [b"%d" % number for number in range(count)]
    records = [Record(value=value, partition=number % 2) for number, value in enumerate(values)]
    librdkafka_produce(proxy.bootstrap, topic, records)
    return values


def last_words(kafka: Cluster, members: Members) -> list[Kept]:
    """The checkpoints that beacons of a realm name."""
    found = []
    for record in librdkafka_read(kafka.bootstrap, CONTROL_TOPIC):
        with suppress(IdentityError):
            made = decode_record(record.value or b"", members.realm.name)
            if not isinstance(made, Enrolment) and isinstance(made.body, Beacon):
                found.append(made.body.checkpoint)
    return found


def read(proxy: Proxy, topic: str) -> list[bytes]:
    return sorted((one.value or b"" for one in librdkafka_read(proxy.bootstrap, topic)), key=int)


def reasons(proxy: Proxy, event: str) -> list[str]:
    if event == "batch_unopened":
        return [one["reason"] for one in proxy.events(event)]
    told = [one["cloudevent"] for one in proxy.events("audit")]
    return [one["data"]["reason"] for one in told if one["type"] == f"io.kveil.{event}"]


class Hostile(World):
    """Members whose processes this one can do anything with, on a real cluster's control topic."""

    def __init__(self, folder: Path, write: Write) -> None:
        super().__init__(folder, Clock())
        self.topic.records.clear()  # of the realm in memory
        self._write, self._at = write, 0
        self.members = Members(folder, self._publish, now=int(time.time()), name=f"realm-{uuid.uuid4().hex[:8]}")

    def unix_time(self) -> float:
        return time.time()

    def _publish(self, records: Sequence[KeyValue]) -> None:
        self.topic.records.extend(records)
        self.mirror()

    def mirror(self) -> None:
        """Have on the cluster's topic what its members have written."""
        self._write(self.topic.records[self._at :])
        self._at = len(self.topic.records)


def store(kafka: Cluster, shop: Member, count: int) -> list[int]:
    """Seal batches with the process's keys, and have the cluster take them. Returns their offsets."""
    found = []
    with RawClient(kafka.bootstrap) as direct:
        for _ in range(count):
            number, stored = shop.seal(client_batch(1))
            code, base = direct.produce({TOPIC: {0: stored}})[TOPIC, 0]
            assert code == 0
            shop.answer(number, base_offset=base)
            found.append(base)
    return found


def read_raw(proxy: Proxy, offset: int) -> tuple[int, list[int]]:
    """The error, and offsets of the batches that a client gets from there on."""
    with RawClient(proxy.bootstrap) as client:
        fetched = client.fetch(TOPIC, 0, offset)
    return fetched.error, [read_header(memoryview(one)).base_offset for one in fetched.batches]


def test_a_revoked_producer_goes_on_writing(kafka: Cluster, write: Write, tmp_path: Path):
    """It keeps its epoch key and its signing key, hears of nothing, and answers nobody."""
    world = Hostile(tmp_path, write)
    kafka.create_topic(TOPIC)
    reader = world.members.join("billing", consumes(TOPIC))
    shop = Member(tmp_path, world, world.members.join("shop", produces(TOPIC)), mode="batch")
    world.deliver()
    directory = authority_of(world.members, reader, shop.node)
    with (
        proxy_of(kafka, world.members, reader, limits={"refused_key_seconds": 0.001}) as running,
        proxy_of(kafka, world.members, reader, start=False) as fresh,
    ):
        early = store(kafka, shop, 3)
        asyncio.run(shop.process.keys.tell())
        world.mirror()
        wait_until(lambda: read_raw(running, 0) == (0, early))

        began = time.monotonic()
        done = revoke(kafka, directory, "shop")
        assert time.monotonic() - began > ANSWER_SECONDS, "it was waited for"
        assert "1 of its processes didn't answer" in done.stdout
        late = store(kafka, shop, 2)

        fresh.start()
        for proxy in (running, fresh):
            wait_until(lambda proxy=proxy: read_raw(proxy, 0) == (0, early))
            for offset in late:
                assert read_raw(proxy, offset) == (CORRUPT_MESSAGE, [])
            for event in ("batch_unopened", "batch.refused"):
                assert any(
                    "its producer shop was revoked, and this batch came after" in one for one in reasons(proxy, event)
                )
            assert proxy.events("stream_alarm") == []


def test_a_producer_that_runs_says_how_far_it_is(kafka: Cluster, members: Members, orders: str):
    """So that nothing of what it sealed since its last beacon is lost; both of its workers do."""
    reader = members.join("billing", consumes("orders*"))
    writer = members.join("shop", produces("orders*"))
    directory = authority_of(members, reader, writer)
    with (
        proxy_of(kafka, members, reader) as billing,
        proxy_of(kafka, members, writer, workers=2) as shop,
    ):
        sent = [value for _ in range(4) for value in produce(shop, orders, 10)]
        done = revoke(kafka, directory, "shop", "--json")
        shown = json.loads(done.stdout[done.stdout.index("{\n") :])
        assert (shown["name"], shown["unanswered"]) == ("shop", [])
        assert librdkafka_refusal(shop.bootstrap, orders).code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
        assert read(billing, orders) == sorted(sent, key=int)
        billing.stop()
        billing.start()
        assert read(billing, orders) == sorted(sent, key=int)
        assert billing.events("batch_unopened") == []


def test_a_producer_that_was_stopped_loses_nothing(kafka: Cluster, members: Members, orders: str):
    """Its last word names all that it sealed: nobody is waited for."""
    reader = members.join("billing", consumes("orders*"))
    writer = members.join("shop", produces("orders*"))
    directory = authority_of(members, reader, writer)
    with proxy_of(kafka, members, writer) as shop:
        sent = produce(shop, orders, 10)
        shop.kill()
        shop.start()
        sent += produce(shop, orders, 10)
        shop.stop()
    assert "doesn't count" not in revoke(kafka, directory, "shop").stdout
    with proxy_of(kafka, members, reader) as billing:
        assert read(billing, orders) == sorted(sent, key=int)


def test_without_asking_where_a_thief_is_feared(kafka: Cluster, members: Members, orders: str):
    """What it has sealed since its last word doesn't count, and the command says so."""
    reader = members.join("billing", consumes("orders*"))
    writer = members.join("shop", produces("orders*"))
    with proxy_of(kafka, members, reader) as billing, proxy_of(kafka, members, writer) as shop:
        produce(shop, orders, 2)
        members.checkpoint()
        wait_until(lambda: members.realm.kept in last_words(kafka, members))
        time.sleep(following.ANSWER_SECONDS + 1)  # in case that it was at it when it was asked
        early = read(billing, orders)
        produce(shop, orders, 2)
        done = revoke(kafka, authority_of(members, reader, writer), "shop", "--now")
        assert "1 of its processes weren't asked" in done.stdout
        with RawClient(billing.bootstrap) as client:
            for partition in (0, 1):
                wait_until(lambda at=partition: client.fetch(orders, at, 1).error == CORRUPT_MESSAGE)
                assert client.fetch(orders, partition).error == 0
        assert len(early) == 2


def test_who_only_reads_is_revoked_at_once(kafka: Cluster, members: Members):
    reader = members.join("billing", consumes("orders*"))
    directory = authority_of(members, reader)
    done = revoke(kafka, directory, "billing", "--json")
    shown = json.loads(done.stdout[done.stdout.index("{\n") :])
    assert shown["checkpoint"] == Checkpoint.from_map(members.realm.checkpoints[-1].fields).number + 1
