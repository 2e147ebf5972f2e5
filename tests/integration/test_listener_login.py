"""Logins at the proxy's own listener: who gets in, who doesn't, and what each user may do."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError as AioKafkaError
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, ShareConsumer, TopicPartition

from kveil.protocol.kafka.api_table import ApiKey
from tests.support import java
from tests.support.clients import (
    Record,
    aiokafka_produce,
    aiokafka_read,
    librdkafka,
    librdkafka_login_error,
    librdkafka_produce,
    librdkafka_read,
    librdkafka_refusal,
    numbered,
)
from tests.support.kafka import Cluster
from tests.support.kafkajs import kafkajs_consume, kafkajs_produce
from tests.support.listener import SecuredListener, secured_proxy
from tests.support.proxy import kveil
from tests.support.raw_client import ConnectionClosedError, RawClient, batch
from tests.support.security import USERS, Login, login
from tests.support.waiting import wait_until

SECONDS = 60.0
T = 1_700_000_000_000
RECORDS = [Record(value=b"%d" % number, key=b"key", timestamp=T) for number in range(20)]
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
WRONG = "not alice's"
RULES = [
    {"match": "alices.*", "mode": "batch", "producers": ["alice"], "consumers": ["bob"]},
    {"match": "*", "mode": "batch"},
]


@pytest.fixture(scope="module")
def listener(kafka: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredListener]:
    """A plaintext listener on loopback with logins, before a cluster that asks for none."""
    with secured_proxy(
        kafka.bootstrap,
        tmp_path_factory.mktemp("login"),
        sasl=True,
        topics=RULES,
        config={"limits": {"login_seconds": 2}},
    ) as running:
        yield running
        text = "\n".join(running.proxy.child.errors.so_far())
        assert not [password for password in (*USERS.values(), WRONG) if password in text]


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_librdkafka(kafka: Cluster, listener: SecuredListener, topic: str, mechanism: str):
    kafka.create_topic(topic)
    settings = listener.librdkafka(login("alice", mechanism))
    librdkafka_produce(settings, topic, RECORDS)
    assert librdkafka_read(settings, topic) == numbered(RECORDS)
    assert b"\xc5\x4b\x56" in kafka.stored_bytes(topic)


@pytest.mark.parametrize("mechanism", MECHANISMS)
async def test_aiokafka(kafka: Cluster, listener: SecuredListener, topic: str, mechanism: str):
    kafka.create_topic(topic)
    settings = listener.aiokafka(login("bob", mechanism))
    await aiokafka_produce(settings, topic, RECORDS)
    assert await aiokafka_read(settings, topic) == numbered(RECORDS)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_java(kafka: Cluster, listener: SecuredListener, topic: str, mechanism: str):
    kafka.create_topic(topic)
    with java.properties_file(listener.java(login("alice", mechanism))) as path:
        reach = ("--bootstrap-server", listener.proxy.bootstrap, "--topic", topic, "--command-config", path)
        java.java_tool(java.CONSOLE_PRODUCER, *reach, stdin="one\ntwo\n")
        limits = ("--from-beginning", "--max-messages", "2", "--timeout-ms", "60000")
        assert java.java_tool(java.CONSOLE_CONSUMER, *reach, *limits).stdout == "one\ntwo\n"


def test_kafkajs(kafka: Cluster, listener: SecuredListener, topic: str):
    kafka.create_topic(topic)
    who = login("bob", "SCRAM-SHA-512")
    kafkajs_produce(listener.proxy.bootstrap, topic, [b"one"], login=who)
    (found,) = kafkajs_consume(listener.proxy.bootstrap, topic, topic, 1, login=who)
    assert found.value == b"one"


class TestNobodyElse:
    @pytest.mark.parametrize("mechanism", MECHANISMS)
    @pytest.mark.parametrize("name", ["alice", "mallory"], ids=["wrong password", "unknown user"])
    def test_librdkafka(self, listener: SecuredListener, mechanism: str, name: str):
        who = Login(username=name, password=WRONG, mechanism=mechanism)
        assert librdkafka_login_error(listener.librdkafka(who)) == KafkaError._AUTHENTICATION
        said = {"mechanism": mechanism, "user": "alice" if name == "alice" else None}
        wait_until(lambda: any(said.items() <= line.items() for line in listener.proxy.events("login_refused")))

    @pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
    def test_java_says_why(self, kafka_sasl: Cluster, listener: SecuredListener, topic: str, mechanism: str):
        """In the words of a real broker."""
        who = Login(username="alice", password=WRONG, mechanism=mechanism)
        said = []
        for settings in (listener.java(who), kafka_sasl.java_settings(who)):
            with java.properties_file(settings) as path:
                reach = (
                    "--bootstrap-server",
                    settings["bootstrap.servers"],
                    "--topic",
                    topic,
                    "--command-config",
                    path,
                )
                done = java.java_tool(java.CONSOLE_PRODUCER, *reach, stdin="one\n", check=False)
            found = [line for line in (done.stdout + done.stderr).splitlines() if "SaslAuthenticationException" in line]
            said.append(found[0].partition("SaslAuthenticationException")[2])
        assert said[0] == said[1]

    async def test_aiokafka(self, listener: SecuredListener):
        producer = AIOKafkaProducer(**listener.aiokafka(Login(password=WRONG, mechanism="SCRAM-SHA-256")))
        try:
            with pytest.raises(AioKafkaError):
                await producer.start()
        finally:
            await producer.stop()

    def test_a_client_without_a_login(self, kafka: Cluster, listener: SecuredListener, topic: str):
        kafka.create_topic(topic)
        with RawClient(listener.proxy.bootstrap) as client:
            offered = {row.api_key: (row.min_version, row.max_version) for row in client.ask(18, 0, {}).api_keys}
            assert (offered[ApiKey.SASL_HANDSHAKE], offered[ApiKey.SASL_AUTHENTICATE]) == ((1, 1), (0, 2))
            with pytest.raises(ConnectionClosedError):
                client.produce({topic: {0: batch([b"one"])}})
        assert "Produce request before the login" in listener.proxy.wait_for_event("connection_closed")["reason"]
        assert kafka.stored_bytes(topic) == b""

    def test_a_mechanism_that_there_is_not(self, listener: SecuredListener):
        with RawClient(listener.proxy.bootstrap) as client:
            answer = client.ask(ApiKey.SASL_HANDSHAKE, 1, {"mechanism": "GSSAPI"})
            assert (answer.error_code, list(answer.mechanisms)) == (33, list(MECHANISMS))
            assert client.is_closed_by_peer()

    def test_who_says_nothing(self, listener: SecuredListener):
        with RawClient(listener.proxy.bootstrap) as client:
            assert client.is_closed_by_peer()
        listener.proxy.child.errors.wait_for("no login within 2 s", SECONDS)

    def test_who_sends_a_giant_before_the_login(self, listener: SecuredListener):
        with RawClient(listener.proxy.bootstrap) as client:
            client.socket.sendall((512 * 1024 + 1).to_bytes(4, "big") + bytes(100))
            assert client.is_closed_by_peer()

    def test_large_frames_after_the_login(self, kafka: Cluster, listener: SecuredListener, topic: str):
        kafka.create_topic(topic)
        record = Record(value=bytes(900_000), timestamp=T)
        settings = listener.librdkafka(login("alice"))
        librdkafka_produce(settings, topic, [record])
        assert librdkafka_read(settings, topic) == numbered([record])


class TestUsers:
    def test_come_and_go_while_it_runs(self, kafka: Cluster, listener: SecuredListener, topic: str):
        kafka.create_topic(topic)
        carol = Login(username="carol", password="first", mechanism="SCRAM-SHA-256")
        assert listener.users is not None
        where = ("--users", str(listener.users))
        assert kveil("users", "add", "carol", *where, stdin="first\n").returncode == 0
        librdkafka_produce(listener.librdkafka(carol), topic, RECORDS)
        assert kveil("users", "passwd", "carol", *where, stdin="second\n").returncode == 0
        assert librdkafka_login_error(listener.librdkafka(carol)) == KafkaError._AUTHENTICATION
        carol = Login(username="carol", password="second", mechanism="PLAIN")
        librdkafka_produce(listener.librdkafka(carol), topic, RECORDS)
        assert kveil("users", "remove", "carol", *where).returncode == 0
        assert librdkafka_login_error(listener.librdkafka(carol)) == KafkaError._AUTHENTICATION

    def test_a_broken_file_keeps_the_users(self, kafka: Cluster, tmp_path: Path, topic: str):
        kafka.create_topic(topic)
        with secured_proxy(kafka.bootstrap, tmp_path, sasl=True) as listener:
            assert listener.users is not None
            listener.users.write_text("half of")
            librdkafka_produce(listener.librdkafka(login("alice")), topic, RECORDS)
            assert "is not JSON" in listener.proxy.wait_for_event("users_reload_refused")["reason"]


class TestRules:
    """alice may produce, bob may consume."""

    @pytest.fixture
    def alices(self, kafka: Cluster, topic: str) -> str:
        name = f"alices.{topic}"
        kafka.create_topic(name)
        return name

    def test_librdkafka(self, kafka: Cluster, listener: SecuredListener, alices: str):
        alice, bob = (listener.librdkafka(login(name, "SCRAM-SHA-256")) for name in ("alice", "bob"))
        librdkafka_produce(alice, alices, RECORDS)
        assert librdkafka_read(bob, alices) == numbered(RECORDS)
        stored = kafka.stored_bytes(alices)
        assert librdkafka_refusal(bob, alices).code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
        assert kafka.stored_bytes(alices) == stored
        with pytest.raises(KafkaException) as caught:
            librdkafka_read(alice, alices)
        assert caught.value.args[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
        for principal, use in (("bob", "produce"), ("alice", "consume")):
            lines = [line for line in listener.proxy.events("access_refused") if line["topic"] == alices]
            assert (principal, use) in [(line["principal"], line["use"]) for line in lines]

    def test_an_empty_topic_is_refused_too(self, listener: SecuredListener, alices: str):
        """A consumer hears of it at once, not with the first record."""
        consumer = Consumer(librdkafka(listener.librdkafka(login("alice")), group_id=alices))
        try:
            consumer.assign([TopicPartition(alices, 0, 0)])
            message = consumer.poll(SECONDS)
        finally:
            consumer.close()
        assert message is not None
        assert message.error().code() == KafkaError.TOPIC_AUTHORIZATION_FAILED

    def test_java(self, listener: SecuredListener, alices: str):
        reach = ("--bootstrap-server", listener.proxy.bootstrap, "--topic", alices, "--command-config")
        with java.properties_file(listener.java(login("bob"))) as path:
            done = java.java_tool(java.CONSOLE_PRODUCER, *reach, path, stdin="one\n", check=False)
            assert "TopicAuthorizationException" in done.stdout + done.stderr
        with java.properties_file(listener.java(login("alice"))) as path:
            java.java_tool(java.CONSOLE_PRODUCER, *reach, path, stdin="one\n")
            limits = ("--from-beginning", "--max-messages", "1", "--timeout-ms", "60000")
            done = java.java_tool(java.CONSOLE_CONSUMER, *reach, path, *limits, check=False)
            assert "TopicAuthorizationException" in done.stdout + done.stderr
            assert "one" not in done.stdout

    @pytest.fixture
    def group(self, listener: SecuredListener, topic: str) -> str:
        """A share group that begins at the beginning."""
        arguments = ("--alter", "--entity-type", "groups", "--entity-name", topic)
        with java.properties_file(listener.java(login("alice"))) as path:
            reach = ("--bootstrap-server", listener.proxy.bootstrap, "--command-config", path)
            java.java_tool(java.CONFIGS, *reach, *arguments, "--add-config", "share.auto.offset.reset=earliest")
        return topic

    def test_share_groups(self, kafka: Cluster, listener: SecuredListener, alices: str, topic: str, group: str):
        """alice's share consumer hears of the topic that she may not consume, and gets the records of the other.

        What she may not have isn't even acquired: bob, of the same group, gets it at its first delivery.
        """
        kafka.create_topic(topic)
        alice, bob = (listener.librdkafka(login(name)) for name in ("alice", "bob"))
        librdkafka_produce(alice, topic, RECORDS)
        librdkafka_produce(alice, alices, RECORDS)
        values, errors = share_read(librdkafka(alice, group_id=group), [topic, alices])
        assert {error.code() for error in errors} == {KafkaError.TOPIC_AUTHORIZATION_FAILED}
        assert {message.topic() for message in values} == {topic}
        values, errors = share_read(librdkafka(bob, group_id=group), [alices])
        assert errors == []
        assert {message.topic() for message in values} == {alices}
        assert {message.delivery_count() for message in values} == {1}


def share_read(settings: dict[str, object], topics: list[str]) -> tuple[list[Message], list[KafkaError]]:
    """As many records as were produced, and the errors on the way; with several topics at least one error."""
    consumer = ShareConsumer(settings)
    consumer.subscribe(topics)
    values: list[Message] = []
    errors: list[KafkaError] = []
    deadline = time.monotonic() + SECONDS
    try:
        while len(values) < len(RECORDS) or (len(topics) > 1 and not errors):
            assert time.monotonic() < deadline, (len(values), errors)
            try:
                values += consumer.poll(1.0)
            except KafkaException as error:
                errors.append(error.args[0])
    finally:
        consumer.close()
    return values, errors


def test_check_explains(listener: SecuredListener):
    """For the very configuration that runs."""
    path = listener.proxy.folder / "kveil.yaml"
    done = kveil("check", "-c", str(path), "--json", "--as", "alice", "--from", "10.1.2.3", "alices.t")
    found = {(one["what"], one["topic"]): one["allowed"] for one in json.loads(done.stdout)["access"]}
    assert found == {
        ("connect from 10.1.2.3", None): True,
        ("log in as alice", None): True,
        ("produce", "alices.t"): True,
        ("consume", "alices.t"): False,
    }
