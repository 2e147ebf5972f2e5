"""Record mode with keys of identities and without a key file: the authority hands the key-hiding key to its members."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError

from tests.support.clients import Record, librdkafka_produce, librdkafka_read, librdkafka_refusal
from tests.support.kafka import Cluster, kafka_cluster
from tests.support.members import Members, control_writer
from tests.support.processes import Child
from tests.support.proxy import KVEIL, Proxy, kveil, kveil_proxy
from tests.support.raw_client import RawClient, batch
from tests.support.realm import consumes, produces

CONTROL_TOPIC = "_kveil.control"
SECONDS = 60.0
NOT_ENOUGH_REPLICAS = 19
ROUNDS, KEYS = 4, 6
COMPACTED = {
    "cleanup.policy": "compact",
    "min.cleanable.dirty.ratio": "0.001",
    "segment.ms": "200",
    "delete.retention.ms": "0",
}


@pytest.fixture(scope="module")
def kafka() -> Iterator[Cluster]:
    """A broker whose log cleaner doesn't rest."""
    with kafka_cluster(properties={"log.cleaner.backoff.ms": 50, "log.segment.delete.delay.ms": 0}) as cluster:
        yield cluster


class Place:
    """A realm's authority and its members, as the commands make them."""

    def __init__(self, folder: Path, kafka: Cluster, *init: str) -> None:
        self.folder = folder
        self._kafka = kafka
        self._where = ("--authority", str(folder / "authority"))
        done = kveil("authority", "init", *self._where, *init)
        assert done.returncode == 0, done.stderr

    @contextmanager
    def running(self) -> Iterator[None]:
        with Child([*KVEIL, "authority", "run", *self._where, "--upstream", self._kafka.bootstrap]) as child:
            child.errors.wait_for("authority_running", SECONDS)
            yield
            child.stop()

    def join(self, *names: str) -> None:
        """Members that may produce to all topics, and read all."""
        grant = ("--role", "producer", "--role", "consumer", "--topics", "*")
        for name in names:
            ticket = self.folder / f"{name}.ticket"
            ticket.write_text(kveil("authority", "ticket", *self._where, *grant, "--name", name).stdout)
            where = ("--identity", str(self.folder / name), "--upstream", self._kafka.bootstrap)
            done = kveil("enroll", str(ticket), *where)
            assert done.returncode == 0, done.stderr

    def proxy(self, name: str, keys: Path | None = None) -> AbstractContextManager[Proxy]:
        """A member's. Where there is to be no key file, its path leads nowhere."""
        path = keys or self.folder / "none.json"
        section = {"provider": "identities", "path": str(path)}
        config = {"keys": section, "identity": {"path": str(self.folder / name)}}
        return kveil_proxy(self._kafka.bootstrap, keys=path, config=config)


@pytest.fixture
def place(tmp_path: Path, kafka: Cluster) -> Iterator[Any]:
    """Makes the realm. Its control topic is gone afterwards."""
    yield lambda *init: Place(tmp_path, kafka, *init)
    kafka.delete_topic(CONTROL_TOPIC)


def customers(number: int) -> list[Record]:
    return [Record(key=b"customer-%d" % key, value=b"secret %d of %d" % (number, key)) for key in range(KEYS)]


def wire_keys(kafka: Cluster, topic: str) -> list[bytes | None]:
    return [record.key for record in librdkafka_read(kafka.bootstrap, topic)]


def compacted(proxy: Proxy, topic: str, most: int) -> list[Record]:
    """What is left beside the last record, which closes a segment."""
    deadline = time.monotonic() + SECONDS
    while True:
        librdkafka_produce(proxy.bootstrap, topic, [Record(key=b"end", value=b"%d" % time.monotonic_ns())])
        left = [record for record in librdkafka_read(proxy.bootstrap, topic) if record.key != b"end"]
        if len(left) <= most:
            return left
        assert time.monotonic() < deadline, f"{len(left)} records are left"


def unnumbered(records: Sequence[Record]) -> list[tuple[bytes | None, bytes | None]]:
    return [(record.key, record.value) for record in records]


def test_a_compacted_topic_without_any_key_file(kafka: Cluster, place: Any, topic: str):
    """Two members write in turn. A key is the same on the wire for both, so one's delete ends what the other wrote."""
    realm = place("--realm", "demo")
    kafka.create_topic(topic, config=COMPACTED | {"segment.ms": "600000"})
    with realm.running():
        realm.join("shop", "billing")
    assert not list(realm.folder.rglob("keys.json"))
    with realm.proxy("shop") as shop, realm.proxy("billing") as billing:
        sent = [*customers(0), *customers(1)]
        librdkafka_produce(shop.bootstrap, topic, customers(0))
        librdkafka_produce(billing.bootstrap, topic, customers(1))
        wire = wire_keys(kafka, topic)
        assert wire[:KEYS] == wire[KEYS:]
        assert len(set(wire)) == KEYS
        assert {len(key or b"") for key in wire} == {32}
        for proxy in (shop, billing):
            assert unnumbered(librdkafka_read(proxy.bootstrap, topic)) == unnumbered(sent)
        deleted = [Record(key=record.key, value=None) for record in customers(0)[: KEYS // 2]]
        librdkafka_produce(billing.bootstrap, topic, deleted)
        assert wire_keys(kafka, topic)[2 * KEYS :] == wire[: KEYS // 2]
        kafka.alter_topic_config(topic, {"segment.ms": "200"})
        left = compacted(shop, topic, KEYS - len(deleted))
        assert unnumbered(left) == unnumbered(customers(1)[KEYS // 2 :])
        for proxy in (shop, billing):
            events = [line["cloudevent"] for line in proxy.events("audit")]
            assert [one["subject"] for one in events if one["type"] == "io.kveil.key.unwrapped"].count("demo") == 1
            assert not proxy.events("identity_alarm")
    for text in (b"customer-", b"secret "):
        assert not kafka.contains(text)


def test_a_realm_that_goes_over_from_a_key_file(kafka: Cluster, place: Any, topic: str, tmp_path: Path):
    """Its authority takes over what hides keys; another key file's is refused, with the ids of both."""
    files = {name: tmp_path / f"{name}.json" for name in ("old", "other")}
    for path in files.values():
        assert kveil("keys", "init", "--keys", str(path), "--realm", "lab").returncode == 0
    ids = {name: json.loads(path.read_text())["key_hiding_key"]["id"] for name, path in files.items()}
    kafka.create_topic(topic, config={"cleanup.policy": "compact"})
    with kveil_proxy(kafka.bootstrap, keys=files["old"]) as before:
        librdkafka_produce(before.bootstrap, topic, customers(0))
    realm = place("--hiding-key", str(files["old"]))
    with realm.running():
        realm.join("shop")
    with realm.proxy("shop", files["other"]) as wrong:
        error = librdkafka_refusal(wrong.bootstrap, topic)
        assert error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
        events = [line["cloudevent"] for line in wrong.events("audit")]
        (reason,) = [one["data"]["reason"] for one in events if one["type"] == "io.kveil.key.refused"]
        assert ids["old"] in reason
        assert ids["other"] in reason
    for keys in (None, files["old"]):
        with realm.proxy("shop", keys) as shop:
            librdkafka_produce(shop.bootstrap, topic, customers(1))
    wire = wire_keys(kafka, topic)
    assert wire == wire[:KEYS] * 3
    assert not kafka.contains(b"customer-")


def test_until_it_is_handed_out_clients_are_told_to_try_again(kafka: Cluster, topic: str, tmp_path: Path):
    """Of an authority from before there was a key. When it is there, all works without a restart."""
    kafka.create_topic(topic, config={"cleanup.policy": "compact"})
    kafka.create_topic(CONTROL_TOPIC, config={"cleanup.policy": "compact"})
    with control_writer(kafka.bootstrap) as write:
        members = Members(tmp_path, write, now=int(time.time()))
        shop = members.join("shop", produces("*"), consumes("*"))
        config = {"keys": {"provider": "identities"}, "identity": {"path": str(members.path(shop))}}
        with kveil_proxy(kafka.bootstrap, keys=tmp_path / "none.json", config=config) as proxy:
            assert produce(proxy, topic) == NOT_ENOUGH_REPLICAS
            assert "kveil authority checkpoint --all" in proxy.events("hiding_key_missing")[0]["reason"]
            assert kafka.stored_bytes(topic) == b""
            members.hand(shop)
            assert produce(proxy, topic) == 0
            members.hand(shop, secret=bytes(32))
            proxy.wait_for_event("identity_alarm")
            assert produce(proxy, topic) == NOT_ENOUGH_REPLICAS
            (record,) = librdkafka_read(proxy.bootstrap, topic)
            assert record.key == b"customer-0"
    kafka.delete_topic(CONTROL_TOPIC)


def produce(proxy: Proxy, topic: str) -> int:
    with RawClient(proxy.bootstrap) as client:
        return client.produce({topic: {0: batch([b"v"], key=b"customer-0")}})[topic, 0][0]
