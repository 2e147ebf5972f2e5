"""A running proxy takes up another configuration, and its clients stay connected."""

import json
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, Producer
from confluent_kafka import TopicPartition as Place

from tests.support.clients import Record, librdkafka, librdkafka_produce, librdkafka_read
from tests.support.kafka import Cluster
from tests.support.listener import secured_proxy
from tests.support.proxy import Proxy, kveil, kveil_proxy
from tests.support.raw_client import ConnectionClosedError, RawClient
from tests.support.security import USERS, login
from tests.support.waiting import wait_until
from tests.support.workers import metrics

SECONDS = 60.0
MAGIC = b"\xc5\x4b\x56"
PLAIN = {"match": "*", "seal": "none"}
SEALED = {"match": "*", "accept_plain": True}


@contextmanager
def reloading_proxy(cluster: Cluster, folder: Path, **config: Any) -> Iterator[Proxy]:
    socket = {"admin": {"socket": str(folder / "admin.sock")}}
    with kveil_proxy(cluster.bootstrap, config={**socket, **config}) as running:
        yield running
        assert not running.events("connection_failed"), running.events("connection_failed")
        assert not running.events("config_reload_failed"), running.events("config_reload_failed")


@pytest.fixture(scope="module", params=[1, 2], ids=["one process", "workers"])
def proxy(request, kafka: Cluster, tmp_path_factory) -> Iterator[Proxy]:
    with reloading_proxy(kafka, tmp_path_factory.mktemp("reload"), workers=request.param) as running:
        yield running


def reload(proxy: Proxy, **changes: Any) -> list[str]:
    """Have it take up changes, and return which it names."""
    proxy.configure(**changes)
    done = kveil("reload", "-c", str(proxy.config_path), "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["changed"]


def refused(proxy: Proxy, **changes: Any) -> list[str]:
    """Have it look at changes that it must refuse, and return what it says against them, without the program's name."""
    before = dict(proxy.config)
    proxy.configure(**changes)
    done = kveil("reload", "-c", str(proxy.config_path))
    proxy.config = before
    proxy.configure()
    assert done.returncode == 1, done.stdout
    return [line.removeprefix("kveil: ") for line in done.stderr.splitlines()]


def paths(told: list[str]) -> list[str]:
    return [line.partition(":")[0] for line in told]


@contextmanager
def consuming(proxy: Proxy, topic: str) -> Iterator[Consumer]:
    consumer = Consumer(librdkafka(proxy.bootstrap, group_id=topic, enable_auto_commit=False))
    consumer.assign([Place(topic, 0, 0)])
    try:
        yield consumer
    finally:
        consumer.close()


def ended_connections(proxy: Proxy) -> int:
    """How many have ended, once all workers have told of those that are open. Clients may open more by themselves."""
    found: dict[str, Any] = {}

    def is_told() -> bool:
        found.update(metrics(proxy))
        is_open = found["kveil_connections_open"]
        return "workers" not in found or sum(worker["connections"] for worker in found["workers"]) == is_open

    wait_until(is_told)
    return int(found["kveil_connections_total"] - found["kveil_connections_open"])


def pass_on(producer: Producer, consumer: Consumer, topic: str, value: bytes) -> None:
    """Produce a record and consume it, by the connections that are there."""
    producer.produce(topic, value, partition=0)
    assert producer.flush(SECONDS) == 0
    message = consumer.poll(SECONDS)
    assert message is not None
    assert (message.error(), message.value()) == (None, value)


def test_rules_change_under_clients(kafka: Cluster, proxy: Proxy, topic: str):
    """Sealed, plain and sealed again, each time from the next batch on and over the same connections."""
    kafka.create_topic(topic)
    reload(proxy, topics=[SEALED])
    producer = Producer(librdkafka(proxy.bootstrap))
    with consuming(proxy, topic) as consumer:
        pass_on(producer, consumer, topic, b"sealed at first")
        ended = ended_connections(proxy)
        assert reload(proxy, topics=[PLAIN]) == ["topics[0].accept_plain", "topics[0].seal"]
        pass_on(producer, consumer, topic, b"plain in between")
        reload(proxy, topics=[SEALED])
        pass_on(producer, consumer, topic, b"sealed again")
        assert ended_connections(proxy) == ended
    stored = [record.value or b"" for record in librdkafka_read(kafka.bootstrap, topic)]
    assert [MAGIC in value for value in stored] == [True, False, True]
    assert stored[1] == b"plain in between"


def test_a_bad_configuration_changes_nothing(kafka: Cluster, proxy: Proxy, topic: str):
    """All that is wrong is told at once, to who asked and in the log, by path."""
    kafka.create_topic(topic)
    reload(proxy, topics=[])
    before = len(proxy.events("config_reload_refused"))
    told = refused(proxy, topics=[{"match": topic, "seal": "sometimes"}], limits={"frame_bytes": 1})
    assert paths(told) == ["topics[0].seal", "limits.frame_bytes"]
    logged = proxy.events("config_reload_refused")[before:]
    assert [f"{line['path']}: {line['reason']}" for line in logged] == told
    assert metrics(proxy)["kveil_config_reload_failed"] == 1
    librdkafka_produce(proxy.bootstrap, topic, [Record(value=b"secret")])
    assert b"secret" not in kafka.stored_bytes(topic)
    reload(proxy)
    assert metrics(proxy)["kveil_config_reload_failed"] == 0


def test_what_takes_a_restart_is_refused_with_the_rest(kafka: Cluster, proxy: Proxy, topic: str):
    """Half of a configuration is nobody's wish."""
    kafka.create_topic(topic)
    reload(proxy, topics=[])
    told = refused(proxy, topics=[PLAIN], workers=3, broker_ports={"count": 5})
    assert paths(told) == ["broker_ports.count", "workers"]
    assert all("restart" in line for line in told)
    librdkafka_produce(proxy.bootstrap, topic, [Record(value=b"secret")])
    assert b"secret" not in kafka.stored_bytes(topic)


def test_by_signal(proxy: Proxy):
    """The same without an answer, and the log tells it once."""
    reload(proxy, topics=[])
    before, audited = len(proxy.events("config_reloaded")), len(changes(proxy))
    proxy.configure(topics=[PLAIN])
    proxy.signal(signal.SIGHUP)
    wait_until(lambda: len(changes(proxy)) > audited)
    (line,) = proxy.events("config_reloaded")[before:]
    assert line["changed"] == ["topics"]
    (event,) = changes(proxy)[audited:]
    assert event["data"]["paths"] == ["topics"]
    assert event["data"]["before"] != event["data"]["after"]
    reload(proxy, topics=[])
    assert changes(proxy)[-1]["data"]["after"] == event["data"]["before"]


def changes(proxy: Proxy) -> list[dict[str, Any]]:
    events = [line["cloudevent"] for line in proxy.events("audit")]
    return [event for event in events if event["type"] == "io.kveil.config.changed"]


def test_the_log_level_for_a_while(proxy: Proxy):
    """Every process hears of it, and so do connections that are open; a reload brings the configured one back."""
    reload(proxy, log={"format": "json", "level": "info"})
    with RawClient(proxy.bootstrap) as client:
        client.metadata()
        told = len(proxy.events("metrics"))
        done = kveil("log-level", "error", "-c", str(proxy.config_path))
        assert done.returncode == 0, done.stderr
        proxy.signal(signal.SIGUSR1)
        client.metadata()
        assert kveil("log-level", "info", "-c", str(proxy.config_path)).returncode == 0
        assert len(proxy.events("metrics")) == told
        kveil("log-level", "error", "-c", str(proxy.config_path))
    reload(proxy)
    assert metrics(proxy)
    assert [line["after"] for line in proxy.events("log_level_changed")] == ["error", "info", "error"]


def test_a_new_key_is_tried_first(proxy: Proxy):
    """A rule that names what can't be had is refused before anything would be sealed with it."""
    (told,) = refused(proxy, topics=[{"match": "orders", "key": "nowhere"}])
    assert told.startswith("keys: the key keyfile:nowhere can't be used")


def test_keys_change_under_clients(kafka: Cluster, proxy: Proxy, topic: str):
    """Another key, and another ring that must unwrap anew what the old one had: over the connections that are there."""
    kafka.create_topic(topic)
    reload(proxy, topics=[])
    producer = Producer(librdkafka(proxy.bootstrap))
    with consuming(proxy, topic) as consumer:
        pass_on(producer, consumer, topic, b"under the default key")
        assert kveil("keys", "add", "eu", "--keys", str(proxy.keys)).returncode == 0
        rule = {"match": "*", "key": "eu", "accept_keys": ["default"]}
        changed = reload(proxy, topics=[rule], keys={**proxy.config["keys"], "unwrap_cache_seconds": 60.0})
        assert changed == ["keys.unwrap_cache_seconds", "topics"]
        pass_on(producer, consumer, topic, b"under the new one")
        consumer.seek(Place(topic, 0, 0))
        values = [consumer.poll(SECONDS).value() for _ in range(2)]
    assert values == [b"under the default key", b"under the new one"]
    made = [line["cloudevent"] for line in proxy.events("audit") if line["cloudevent"]["subject"] == topic]
    assert [event["data"]["key"] for event in made if event["type"] == "io.kveil.key.created"] == [
        "keyfile:default",
        "keyfile:eu",
    ]


def test_a_consumer_that_is_no_longer_named(kafka: Cluster, tmp_path: Path, topic: str):
    """Its fetch session began when it was; it gets no further record, and hears why."""
    kafka.create_topic(topic)
    rule = {"match": topic, "producers": ["alice"], "consumers": ["bob"]}
    config = {"admin": {"socket": str(tmp_path / "admin.sock")}}
    with secured_proxy(kafka.bootstrap, tmp_path, sasl=True, topics=[rule], config=config) as listener:
        producer = Producer(listener.librdkafka(login("alice")))
        settings = listener.librdkafka(login("bob")) | {"group.id": topic, "enable.auto.commit": False}
        with closing(Consumer(settings)) as consumer:
            consumer.assign([Place(topic, 0, 0)])
            pass_on(producer, consumer, topic, b"for bob")
            assert reload(listener.proxy, topics=[{**rule, "consumers": []}]) == ["topics[0].consumers"]
            producer.produce(topic, b"for nobody", partition=0)
            assert producer.flush(SECONDS) == 0
            message = consumer.poll(SECONDS)
        assert message is not None
        assert message.error().code() == KafkaError.TOPIC_AUTHORIZATION_FAILED


def test_nobody_there(tmp_path: Path):
    done = kveil("reload", "--socket", str(tmp_path / "no.sock"))
    assert (done.returncode, "no proxy answers" in done.stderr) == (1, True)
    config = tmp_path / "kveil.yaml"
    config.write_text("upstream: {bootstrap: [a:1]}")
    done = kveil("reload", "-c", str(config))
    assert done.returncode == 2
    assert "admin.socket" in done.stderr


def test_another_login_at_the_cluster(kafka_sasl: Cluster, tmp_path: Path):
    """New connections log in with what the configuration names now; the ones that are there go on."""
    assert kafka_sasl.certificates is not None
    passwords = [tmp_path / name for name in ("first", "second")]
    for path in passwords:
        path.write_text(USERS["alice"])
    sasl = {"mechanism": "PLAIN", "username": "alice", "password": f"file:{passwords[0]}"}
    tls = {"ca": str(kafka_sasl.certificates.authority.path)}
    upstream = {"bootstrap": kafka_sasl.bootstrap.split(","), "tls": tls, "sasl": sasl}
    with reloading_proxy(kafka_sasl, tmp_path, upstream=upstream) as proxy, RawClient(proxy.bootstrap) as before:
        before.metadata()
        passwords[0].write_text("not-alice's")
        refused = RawClient(proxy.bootstrap)
        with refused, pytest.raises(ConnectionClosedError):
            refused.metadata()
        upstream["sasl"] = {**sasl, "password": f"file:{passwords[1]}"}
        assert reload(proxy, upstream=upstream) == ["upstream.sasl.password"]
        with RawClient(proxy.bootstrap) as after:
            after.metadata()
        before.metadata()
