"""Keys of identities, through proxies and a real broker: who joins and who is revoked while records flow."""

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError

from kveil.protocol.identity.credential import History
from kveil.protocol.identity.crypto import KemSuite
from tests.support.admin_port import admin_port
from tests.support.clients import Record, librdkafka_produce, librdkafka_read, librdkafka_refusal, numbered
from tests.support.kafka import Cluster, kafka_cluster
from tests.support.members import Members, members_on
from tests.support.processes import Child
from tests.support.proxy import KVEIL, Proxy, kveil, kveil_proxy
from tests.support.realm import Node, consumes, keeps, produces
from tests.support.steady import read_all, steady_consumer, steady_producer

SECONDS = 60.0
WRONG_SETUP = 2


@pytest.fixture(scope="module")
def kafka() -> Iterator[Cluster]:
    """A cluster for these tests alone: its control topic is theirs."""
    with kafka_cluster() as cluster:
        yield cluster


@pytest.fixture
def members(kafka: Cluster, tmp_path: Path) -> Iterator[Members]:
    """A realm, whose authority writes to the cluster by itself."""
    with members_on(kafka, tmp_path, suite=KemSuite.MLKEM768_X25519) as made:
        yield made


@pytest.fixture
def orders(kafka: Cluster, topic: str) -> str:
    name = f"orders-{topic}"
    kafka.create_topic(name)
    return name


def proxy_of(
    kafka: Cluster, members: Members, node: Node, *, start: bool = True, **more: Any
) -> AbstractContextManager[Proxy]:
    """The proxy of a member, on a host of its own as far as files go."""
    identity = {"keys": {"provider": "identities"}, "identity": {"path": str(members.path(node))}}
    return kveil_proxy(kafka.bootstrap, keys=members.folder / "none.json", start=start, config={**identity, **more})


def refusal(bootstrap: str, topic: str) -> int:
    """The error that a consumer is told when it reads a topic from its start, which it must be."""
    settings = {"bootstrap.servers": bootstrap, "group.id": "refused", "auto.offset.reset": "earliest"}
    consumer = Consumer(settings)
    consumer.subscribe([topic])
    deadline = time.monotonic() + SECONDS
    try:
        while time.monotonic() < deadline:
            message = consumer.poll(0.5)
            if message is not None and message.error() is not None and not message.error().retriable():
                return int(message.error().code())
    finally:
        consumer.close()
    raise AssertionError("it was refused nothing")


def regrants(kafka: Cluster, members: Members, keeper: Node) -> int:
    """How many a keeper makes that comes for a moment."""
    reach = ("--identity", str(members.path(keeper)), "--upstream", kafka.bootstrap)
    done = kveil("keeper", "regrant", *reach, "--json")
    assert done.returncode == 0, done.stderr
    found: int = json.loads(done.stdout[done.stdout.index("{\n") :])["regrants"]
    return found


def values(read: Mapping[int, Sequence[int]]) -> list[int]:
    return sorted(value for partition in read.values() for value in partition)


def test_readers_come_and_go_while_records_flow(kafka: Cluster, members: Members, orders: str):
    """Two producers, two groups of consumers, of which one is revoked; a third one joins, and reads all from the start.

    Nobody who may read loses a record, or gets one twice.
    """
    with ExitStack() as stack:
        keeper = members.join("vault", keeps("orders*"))
        nodes = {name: members.join(name, produces("orders*")) for name in ("shop1", "shop2")}
        nodes |= {name: members.join(name, consumes("orders*")) for name in ("billing", "audit")}
        proxies = {
            name: stack.enter_context(proxy_of(kafka, members, node, workers=2 if name == "billing" else 1))
            for name, node in nodes.items()
        }
        producers = [
            stack.enter_context(steady_producer(proxies[name].bootstrap, orders, pause_seconds=0.005))
            for name in ("shop1", "shop2")
        ]
        billing = stack.enter_context(steady_consumer(proxies["billing"].bootstrap, orders))
        with steady_consumer(proxies["audit"].bootstrap, orders) as audit:
            for producer in producers:
                producer.wait_for_more(100)
            billing.wait_for(200)
            audit.wait_for(200)

        late = members.join("late", consumes("orders*", history=History.ALL))
        late_proxy = stack.enter_context(proxy_of(kafka, members, late))
        for producer in producers:
            producer.wait_for_more(50)
        assert regrants(kafka, members, keeper) == 2, "one for each producer's key from before it joined"
        assert regrants(kafka, members, keeper) == 0

        members.revoke(nodes["audit"])
        assert refusal(proxies["audit"].bootstrap, orders) == KafkaError.TOPIC_AUTHORIZATION_FAILED
        for producer in producers:
            producer.wait_for_more(50)

        sent = [producer.finish() for producer in producers]
        billing.wait_for(sum(sent))
        expected = sorted(value for count in sent for value in range(count))
        assert values(billing.values) == expected
        assert values(read_all(late_proxy.bootstrap, orders)) == expected
        assert not any(proxies[name].events("stream_alarm") for name in ("billing", "audit"))
        assert not late_proxy.events("stream_alarm")
        for name in ("shop1", "shop2"):
            made = [one["cloudevent"]["data"] for one in proxies[name].events("audit")]
            readers = [one["readers"] for one in made if "readers" in one]
            assert readers == [3, 4, 3], "the keeper and two; with the late one; without the revoked one"


def test_restarts_and_rotations_lose_nothing(kafka: Cluster, members: Members, orders: str):
    """A producer that ends in any way, at a time when no consumer is there."""
    reader = members.join("billing", consumes("orders*"))
    writer = members.join("shop", produces("orders*"))
    sent: list[Record] = []

    def produce(proxy: Proxy) -> None:
        some = [Record(value=b"secret %d" % number) for number in range(len(sent), len(sent) + 10)]
        librdkafka_produce(proxy.bootstrap, orders, some)
        sent.extend(some)

    with proxy_of(kafka, members, writer, admin={"address": None}) as shop:
        produce(shop)
        shop.stop()
        shop.start()
        produce(shop)
        shop.kill()
        shop.start()
        produce(shop)
        done = kveil("keys", "rotate", "-c", str(shop.folder / "kveil.yaml"))
        assert done.returncode == 0, done.stderr
        time.sleep(1.1)  # as late as it may be noticed
        produce(shop)
        made = [line["cloudevent"]["data"] for line in shop.events("audit") if "readers" in line["cloudevent"]["data"]]
        assert len({one["kid"] for one in made}) == 2, "one since the start, one since the rotation"
    assert not kafka.contains(b"secret 1")
    with proxy_of(kafka, members, reader) as billing:
        got = librdkafka_read(billing.bootstrap, orders)
        assert [one.value for one in got] == [one.value for one in numbered(sent)]
        assert billing.events("stream_alarm") == []


def test_a_node_that_was_rolled_back_does_not_start(kafka: Cluster, members: Members, orders: str):
    members.join("billing", consumes("orders*"))
    writer = members.join("shop", produces("orders*"))
    chain = members.path(writer) / "chain-0.json"
    with proxy_of(kafka, members, writer) as shop:
        librdkafka_produce(shop.bootstrap, orders, [Record(value=b"1")])
        old = chain.read_bytes()
        shop.stop()
        shop.start()
        librdkafka_produce(shop.bootstrap, orders, [Record(value=b"2")])
        shop.stop()
        chain.write_bytes(old)
        done = kveil("run", "-c", str(shop.folder / "kveil.yaml"))
        assert done.returncode == WRONG_SETUP
        assert "was rolled back" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_checkpoint_that_is_held_back_stops_sealing(kafka: Cluster, members: Members, orders: str):
    """With the lease; and sealing goes on by itself when a new one comes."""
    members.join("billing", consumes("orders*"))
    writer = members.join("shop", produces("orders*"))
    skew = 120
    members.checkpoint(expires=int(time.time()) - skew + 8, created=int(time.time()) - 1000)
    with (
        admin_port() as admin,
        proxy_of(kafka, members, writer, **admin.config) as shop,
        steady_producer(shop.bootstrap, orders) as producer,
    ):
        producer.wait_for_more(10)
        assert admin.get("/readyz").json["checks"]["keys: identities"] == {"ok": True}
        shop.wait_for_event("produce_refused")
        (refused,) = shop.events("produce_refused")[:1]
        assert refused["error"] == "NOT_ENOUGH_REPLICAS"
        check = admin.get("/readyz").json["checks"]["keys: identities"]
        assert not check["ok"]
        assert "freeze: checkpoint 3 expired" in check["reason"]
        members.checkpoint()
        producer.wait_for_more(10)
        producer.finish()
        metrics = admin.metrics()
        assert metrics["kveil_announcements_total",] >= 2
        assert metrics["kveil_control_records_total", "taken"] >= 7
        assert metrics["kveil_checkpoint_expiry_timestamp_seconds",] > time.time()
        assert metrics["kveil_checkpoint_number",] == members.realm.kept[0]


def test_what_was_not_granted_and_keepers_at_work(kafka: Cluster, members: Members, orders: str):
    """A keeper that runs hands keys on as soon as somebody joins."""
    keeper = members.join("vault", keeps("orders*"))
    writer = members.join("shop", produces("orders*"))
    with ExitStack() as stack:
        shop = stack.enter_context(proxy_of(kafka, members, writer))
        error = librdkafka_refusal(shop.bootstrap, "other")
        assert error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
        librdkafka_produce(shop.bootstrap, orders, [Record(value=b"1")])
        assert refusal(shop.bootstrap, orders) == KafkaError.TOPIC_AUTHORIZATION_FAILED, "it may produce only"
        reach = ["--identity", str(members.path(keeper)), "--upstream", kafka.bootstrap]
        admin = stack.enter_context(admin_port())
        environment = {**os.environ, "KVEIL_ADMIN__ADDRESS": admin.config["admin"]["address"]}
        with Child([*KVEIL, "keeper", "run", *reach, "--log-format", "json"], environment=environment) as vault:
            vault.errors.wait_for("keeper_running", SECONDS)
            late = members.join("late", consumes("orders*", history=History.ALL))
            vault.errors.wait_for('"regrants": 1', SECONDS)
            metrics = admin.metrics()
            assert metrics["kveil_identity_events_total", "key.regranted", ""] == 1
            assert metrics["kveil_checkpoint_number",] == members.realm.kept[0]
            assert admin.get("/readyz").json == {"ready": True, "checks": {"control": {"ok": True}}}
            vault.stop()
        proxy = stack.enter_context(proxy_of(kafka, members, late))
        assert [one.value for one in librdkafka_read(proxy.bootstrap, orders)] == [b"1"]


def test_a_topic_is_moved_to_identities_and_back(kafka: Cluster, members: Members, orders: str, tmp_path: Path):
    """From a key file, whose realm is the same, by one process that has both kinds."""
    keys, announced, back = tmp_path / "keys.json", f"{orders}.announced", f"{orders}.back"
    assert kveil("keys", "init", "--keys", str(keys), "--realm", members.realm.name).returncode == 0
    mover = members.join("mover", produces("orders*"), consumes("orders*"))
    both = {
        "identity": {"path": str(members.path(mover))},
        "topics": [{"match": announced, "key": "identities:{topic}"}],
    }
    with kveil_proxy(kafka.bootstrap, keys=keys, config=both) as proxy:
        some = [Record(value=b"%d" % number) for number in range(100)]
        librdkafka_produce(proxy.bootstrap, orders, some)
        for source, dest in ((orders, announced), (announced, back)):
            done = kveil("migrate", source, dest, "-c", str(proxy.folder / "kveil.yaml"))
            assert done.returncode == 0, done.stderr
            assert [one.value for one in librdkafka_read(proxy.bootstrap, dest)] == [one.value for one in some]
    with proxy_of(kafka, members, members.join("billing", consumes("orders*"))) as reader:
        assert refusal(reader.bootstrap, announced) == KafkaError.TOPIC_AUTHORIZATION_FAILED, "it joined too late"
