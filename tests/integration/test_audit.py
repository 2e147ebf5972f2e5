"""The audit before a real broker: its topic, its file, and no service without them where that is asked for."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from confluent_kafka import KafkaError

from tests.support.admin_port import admin_port
from tests.support.clients import Record, librdkafka_messages, librdkafka_produce, librdkafka_read, librdkafka_refusal
from tests.support.cloudevents import check_event, events_in, of_type
from tests.support.kafka import Cluster
from tests.support.listener import secured_proxy
from tests.support.processes import Child
from tests.support.proxy import KVEIL, Proxy, kveil_proxy
from tests.support.security import USERS
from tests.support.waiting import wait_until

SEALED = [{"match": "*", "mode": "batch"}]
CONTENT_TYPE = ("content-type", b"application/cloudevents+json; charset=UTF-8")
BRIEFLY = {"message_timeout_ms": 1500}
ONE = [Record(value=b"one")]


@pytest.fixture
def audit_topic(kafka: Cluster, topic: str) -> str:
    name = f"{topic}-audit"
    kafka.create_topic(name)
    return name


def events_of(bootstrap: str, topic: str) -> list[dict[str, Any]]:
    """The events on a topic, each of them checked."""
    messages = librdkafka_messages(bootstrap, topic)
    assert all(message.headers() == [CONTENT_TYPE] for message in messages)
    return [check_event(json.loads(message.value() or b"")) for message in messages]


def ids(events: list[dict[str, Any]]) -> list[str]:
    return sorted(event["id"] for event in events)


def test_events_arrive_on_a_topic_sealed_as_its_rule_says(kafka: Cluster, topic: str, audit_topic: str):
    kafka.create_topic(topic)
    with kveil_proxy(kafka.bootstrap, topics=SEALED, config={"audit": {"topic": audit_topic}}) as proxy:
        librdkafka_produce(proxy.bootstrap, topic, ONE, client_id="app-1")
        assert len(librdkafka_read(proxy.bootstrap, topic, client_id="app-2")) == 1
        wait_until(lambda: len(of_type(events_of(proxy.bootstrap, audit_topic), "access.granted")) >= 2)
        found = events_of(proxy.bootstrap, audit_topic)
        refusal = librdkafka_refusal(proxy.bootstrap, audit_topic)
    assert refusal.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED  # nobody else writes there
    assert found[0]["type"] == "io.kveil.proxy.started"
    (made,) = (event for event in of_type(found, "key.created") if event["subject"] == topic)
    asked = [event for event in of_type(found, "access.granted") if event["subject"] == topic]
    assert [event["data"]["client_id"] for event in asked] == ["app-1", "app-2"]
    assert [event["data"]["operation"] for event in asked] == ["Produce", "Fetch"]
    cause = {name: made["data"][name] for name in ("principal", "client_id", "address", "operation", "correlation_id")}
    assert cause == {name: asked[0]["data"][name] for name in cause}
    assert len(set(ids(found))) == len(found)
    stored = kafka.stored_bytes(audit_topic)
    assert b"cloudevents" not in stored
    assert topic.encode() not in stored


def test_every_sink_of_every_worker_gets_the_same(kafka: Cluster, topic: str, audit_topic: str, tmp_path: Path):
    """The topic is plain by its rule here. At the end nothing is left behind."""
    kafka.create_topic(topic)
    path = tmp_path / "audit.log"
    config = {"workers": 2, "audit": {"topic": audit_topic, "stdout": True, "file": {"path": str(path)}}}
    rules = [{"match": audit_topic, "seal": "none"}, *SEALED]
    with kveil_proxy(kafka.bootstrap, topics=rules, config=config) as proxy:
        for client in range(4):
            librdkafka_produce(proxy.bootstrap, topic, ONE, client_id=f"app-{client}")
        assert proxy.stop() == 0
        logged = [line["cloudevent"] for line in proxy.events("audit")]
        printed = events_in("\n".join(proxy.child.lines.so_far()))
    on_topic = events_of(kafka.bootstrap, audit_topic)
    in_file = events_in(path.read_text())
    assert ids(in_file) == ids(on_topic) == ids(printed) == ids(logged)
    assert len(of_type(in_file, "proxy.started")) == len(of_type(in_file, "proxy.stopped")) == 2
    digests = {event["subject"] for kind in ("started", "stopped") for event in of_type(in_file, f"proxy.{kind}")}
    assert len(digests) == 1
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_log_has_them_at_every_level(kafka: Cluster, tmp_path: Path):
    with kveil_proxy(kafka.bootstrap, start=False, config={"log": {"format": "json", "level": "error"}}) as proxy:
        path = tmp_path / "kveil.yaml"
        path.write_text(yaml.safe_dump(proxy.config))
        child = Child([*KVEIL, "run", "-c", str(path)])
        child.errors.wait_for("io.kveil.proxy.started", 30)
        assert child.stop() == 0
        lines = [json.loads(line) for line in child.errors.so_far()]
    assert [line["cloudevent"]["type"] for line in lines] == ["io.kveil.proxy.started", "io.kveil.proxy.stopped"]


def test_logins_are_audited_and_no_password_is(kafka: Cluster, topic: str, tmp_path: Path):
    kafka.create_topic(topic)
    path = tmp_path / "audit.log"
    with secured_proxy(
        kafka.bootstrap, tmp_path, sasl=True, topics=SEALED, config={"audit": {"file": {"path": str(path)}}}
    ) as listener:
        login = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN", "sasl.username": "alice"}
        settings = {"bootstrap.servers": listener.proxy.bootstrap, **login, "sasl.password": USERS["alice"]}
        librdkafka_produce(settings, topic, ONE)
        librdkafka_refusal({**settings, "sasl.password": "wr0ng", "log_level": 0}, topic, **BRIEFLY)
        listener.proxy.stop()
    found = events_in(path.read_text())
    assert {event["subject"] for event in of_type(found, "login.granted")} == {"alice"}
    assert {event["subject"] for event in of_type(found, "login.refused")} == {"alice"}
    assert {event["data"]["principal"] for event in of_type(found, "access.granted")} == {"alice"}
    assert not [password for password in ("wr0ng", USERS["alice"]) if password in path.read_text()]


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    folder = tmp_path / "logs"
    folder.mkdir()
    return folder


class TestRequired:
    @pytest.mark.parametrize("workers", [1, 2])
    def test_it_does_not_start_without_its_file(self, kafka: Cluster, tmp_path: Path, workers: int):
        path = tmp_path / "nowhere" / "audit.log"
        config = {"workers": workers, "audit": {"required": True, "file": {"path": str(path)}}}
        told = self.not_started(kafka, config)
        assert told == [
            "kveil: audit.file: takes no events, and audit.required is true: No such file or directory",
        ]

    def test_it_does_not_start_without_its_topic(self, kafka: Cluster, topic: str):
        (told,) = self.not_started(kafka, {"audit": {"required": True, "topic": topic}})
        assert told.startswith("kveil: audit.topic: takes no events, and audit.required is true: there is no topic")

    def not_started(self, kafka: Cluster, config: dict[str, Any]) -> list[str]:
        with kveil_proxy(kafka.bootstrap, start=False, config=config) as proxy:
            path = proxy.folder / "kveil.yaml"
            path.write_text(yaml.safe_dump(proxy.config))
            child = Child([*KVEIL, "run", "-c", str(path)])
            assert child.wait(60) == 2
            assert "listening" not in "".join(child.errors.so_far())
            return [line for line in child.errors.so_far() if line.startswith("kveil:")]

    @pytest.fixture
    def held(self, kafka: Cluster, topic: str, logs: Path) -> Iterator[tuple[Proxy, Any]]:
        kafka.create_topic(topic)
        with admin_port() as port:
            config = {**port.config, "audit": {"required": True, "file": {"path": str(logs / "audit.log")}}}
            with kveil_proxy(kafka.bootstrap, topics=SEALED, config=config) as proxy:
                yield proxy, port

    def test_nobody_is_served_while_the_file_is_out_of_reach(self, kafka: Cluster, held, topic: str, logs: Path):
        proxy, port = held
        librdkafka_produce(proxy.bootstrap, topic, ONE, client_id="before")
        assert port.get("/readyz").json["checks"]["audit"] == {"ok": True}
        away = logs.rename(logs.with_name("away"))
        for client in ("first", "next"):  # what the first one causes can't be written; the next one isn't let in
            quiet = {"bootstrap.servers": proxy.bootstrap, "log_level": 0}
            refusal = librdkafka_refusal(quiet, topic, client_id=client, **BRIEFLY)
            assert refusal.code() == KafkaError._MSG_TIMED_OUT
        assert len(librdkafka_read(kafka.bootstrap, topic)) == 1
        answer = port.get("/readyz")
        assert answer.status == 503
        assert answer.json["checks"]["audit"] == {"ok": False, "reason": "No such file or directory"}
        assert proxy.events("audit_sink_failed")
        assert proxy.events("audit_holds_clients")

        waiting = threading.Thread(target=librdkafka_produce, args=(quiet, topic, ONE), kwargs={"client_id": "patient"})
        waiting.start()
        away.rename(logs)
        waiting.join()
        wait_until(lambda: port.get("/readyz").json["checks"]["audit"] == {"ok": True})
        proxy.stop()
        granted = of_type(events_in((logs / "audit.log").read_text()), "access.granted")
        clients = [event["data"]["client_id"] for event in granted]
        assert {"before", "patient"} <= set(clients)
        assert "next" not in clients

    def test_a_topic_that_comes_back_has_what_was_decided_meanwhile(self, kafka: Cluster, topic: str, audit_topic: str):
        kafka.create_topic(topic)
        config = {"audit": {"required": True, "topic": audit_topic}}
        with kveil_proxy(kafka.bootstrap, topics=SEALED, config=config) as proxy:
            kafka.delete_topic(audit_topic)
            quiet = {"bootstrap.servers": proxy.bootstrap, "log_level": 0}
            # Its record may get through before the trouble is noticed, or wait until that is over.
            first = threading.Thread(target=librdkafka_produce, args=(quiet, topic, ONE), kwargs={"client_id": "first"})
            first.start()
            proxy.wait_for_event("audit_sink_failed")
            assert librdkafka_refusal(quiet, topic, **BRIEFLY).code() == KafkaError._MSG_TIMED_OUT
            kafka.create_topic(audit_topic)
            first.join()
            librdkafka_produce(proxy.bootstrap, topic, ONE, client_id="last")
            assert proxy.stop() == 0
            proxy.start()
            found = of_type(events_of(proxy.bootstrap, audit_topic), "access.granted")
        assert [event["data"]["client_id"] for event in found if event["subject"] == topic] == ["first", "last"]
