"""What history means: which records a new consumer opens, on topics of a real broker, and how it reads on."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition

from kveil.protocol.identity.credential import History
from kveil.protocol.identity.crypto import KemSuite
from tests.integration.test_identities import proxy_of, regrants
from tests.support.clients import Record, librdkafka_produce, librdkafka_read
from tests.support.kafka import Cluster, kafka_cluster
from tests.support.members import Members, members_on
from tests.support.proxy import Proxy, kveil
from tests.support.raw_client import RawClient
from tests.support.realm import consumes, keeps, produces
from tests.support.waiting import wait_until

SECONDS = 60.0
OPEN, DENIED, LATER = 0, 29, 56
"""NONE, TOPIC_AUTHORIZATION_FAILED, and KAFKA_STORAGE_ERROR, after which clients try again."""

TABLE = {
    History.NONE: (DENIED, DENIED, OPEN),
    History.FROM_JOIN: (DENIED, OPEN, OPEN),
    History.ALL: (LATER, OPEN, OPEN),
}
"""What a consumer is told of a record from before it joined, of one from after it, and of one under the next key."""


@pytest.fixture(scope="module")
def kafka() -> Iterator[Cluster]:
    with kafka_cluster() as cluster:
        yield cluster


@pytest.fixture
def members(kafka: Cluster, tmp_path: Path) -> Iterator[Members]:
    with members_on(kafka, tmp_path, suite=KemSuite.X25519) as made:
        yield made


def kids(proxy: Proxy) -> list[str]:
    """The epoch keys that a proxy has announced since it started, in turn."""
    made = [line["cloudevent"]["data"] for line in proxy.events("audit")]
    return [one["kid"] for one in made if "readers" in one]


def read_from(bootstrap: str, topic: str, offset: int, count: int) -> list[bytes | None]:
    """What a client reads that begins at an offset."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "seeks"})
    consumer.assign([TopicPartition(topic, 0, offset)])
    try:
        found = consumer.consume(count, SECONDS)
        assert all(one.error() is None for one in found), [one.error() for one in found]
        return [one.value() for one in found]
    finally:
        consumer.close()


@pytest.mark.parametrize("history", History, ids=lambda one: one.name.lower())
def test_what_a_new_consumer_opens(kafka: Cluster, members: Members, topic: str, history: History):
    """By offset; what it may not open doesn't keep it from what it may: it begins after that."""
    name = f"orders-{topic}"
    kafka.create_topic(name)
    keeper = members.join("vault", keeps("orders*"))
    writer = members.join("shop", produces("orders*"))
    with ExitStack() as stack:
        shop = stack.enter_context(proxy_of(kafka, members, writer, admin={"address": None}))
        librdkafka_produce(shop.bootstrap, name, [Record(value=b"before")])
        reader = members.join("late", consumes("orders*", history=history))
        number = len(members.realm.checkpoints)
        wait_until(lambda: number in [one["number"] for one in shop.events("checkpoint")])
        librdkafka_produce(shop.bootstrap, name, [Record(value=b"after")])
        assert len(set(kids(shop))) == (1 if history is History.NONE else 2)
        done = kveil("keys", "rotate", "-c", str(shop.folder / "kveil.yaml"))
        assert done.returncode == 0, done.stderr
        time.sleep(1.1)  # as late as it may be noticed
        librdkafka_produce(shop.bootstrap, name, [Record(value=b"next")])
        assert len(set(kids(shop))) == (2 if history is History.NONE else 3)

        late = stack.enter_context(proxy_of(kafka, members, reader))
        with RawClient(late.bootstrap) as client:
            answers = [client.fetch(name, offset=offset) for offset in range(3)]
        assert tuple(one.error for one in answers) == TABLE[history]
        assert not any(b"before" in one.records for one in answers)
        first = TABLE[history].index(OPEN)
        values = [b"before", b"after", b"next"]
        assert read_from(late.bootstrap, name, first, 3 - first) == values[first:]

        handed_on = regrants(kafka, members, keeper)
        assert handed_on == (1 if history is History.ALL else 0)
        if handed_on:
            assert [one.value for one in librdkafka_read(late.bootstrap, name)] == values


def test_a_key_ends_by_its_age_and_two_processes_share_an_identity(kafka: Cluster, members: Members, topic: str):
    """Consumers are away meanwhile; two groups read it all afterwards."""
    name = f"orders-{topic}"
    kafka.create_topic(name)
    writer = members.join("shop", produces("orders*"))
    readers = [members.join(one, consumes("orders*")) for one in ("billing", "audit")]
    limits = {"epoch_key_hours": 1 / 3600}
    sent = []
    with (
        proxy_of(kafka, members, writer, limits=limits) as one,
        proxy_of(kafka, members, writer, limits=limits) as other,
    ):
        for turn in range(3):
            for proxy in (one, other):
                record = Record(value=b"%d by %d" % (turn, proxy.port))
                librdkafka_produce(proxy.bootstrap, name, [record])
                sent.append(record.value)
            time.sleep(1.1)  # older than a key may be
        assert len(set(kids(one))) == 3
        assert len(set(kids(other))) == 3
        assert not set(kids(one)) & set(kids(other))
    for reader in readers:
        with proxy_of(kafka, members, reader, workers=2) as proxy:
            assert [one.value for one in librdkafka_read(proxy.bootstrap, name)] == sent
            assert proxy.events("stream_alarm") == []
    with RawClient(kafka.bootstrap) as client:
        assert b" by " not in client.fetch(name).records
