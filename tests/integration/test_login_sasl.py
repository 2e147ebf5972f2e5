"""The client's own login passes through a plaintext listener to a cluster that wants SASL over TLS."""

import base64
import json
import time
from collections.abc import Iterator

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import KafkaError as AioKafkaError
from confluent_kafka import KafkaError

from kveil.protocol.kafka.api_table import ApiKey
from tests.support import java
from tests.support.clients import (
    Record,
    aiokafka_produce,
    aiokafka_read,
    librdkafka_login_error,
    librdkafka_produce,
    librdkafka_read,
    numbered,
)
from tests.support.kafka import Cluster, Login, Security
from tests.support.kafkajs import kafkajs_consume, kafkajs_produce
from tests.support.proxy import Proxy, kveil_proxy
from tests.support.raw_client import ConnectionClosedError, RawClient, batch
from tests.support.security import MECHANISMS, USERS, login

SECONDS = 60.0
T = 1_700_000_000_000
RECORDS = [Record(value=b"%d" % number, key=b"key", timestamp=T) for number in range(50)]
MAGIC = b"\xc5\x4b\x56"
WRONG = Login(username="alice", password="not alice's")


@pytest.fixture(scope="module")
def proxy(kafka_sasl: Cluster) -> Iterator[Proxy]:
    """A proxy that speaks TLS upstream and leaves the login to its clients."""
    assert kafka_sasl.certificates is not None
    with kveil_proxy(kafka_sasl.bootstrap, tls={"ca": str(kafka_sasl.certificates.authority.path)}) as running:
        yield running
        assert not running.events("connection_failed"), running.events("connection_failed")
        text = "\n".join(running.child.errors.so_far())
        assert not [password for password in (*USERS.values(), WRONG.password) if password in text]


def local(cluster: Cluster, proxy: Proxy, who: Login) -> dict[str, object]:
    """What librdkafka needs: SASL_SSL became SASL_PLAINTEXT, nothing else changed."""
    return cluster.client_settings(who, bootstrap=proxy.bootstrap, security=Security.SASL_PLAINTEXT)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_librdkafka(kafka_sasl: Cluster, proxy: Proxy, topic: str, mechanism: str):
    kafka_sasl.create_topic(topic)
    settings = local(kafka_sasl, proxy, login("alice", mechanism))
    librdkafka_produce(settings, topic, RECORDS)
    assert librdkafka_read(settings, topic) == numbered(RECORDS)
    assert MAGIC in kafka_sasl.stored_bytes(topic)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_java(kafka_sasl: Cluster, proxy: Proxy, topic: str, mechanism: str):
    kafka_sasl.create_topic(topic)
    who = login("bob", mechanism)
    settings = kafka_sasl.java_settings(who, bootstrap=proxy.bootstrap, security=Security.SASL_PLAINTEXT)
    with java.properties_file(settings) as path:
        reach = ("--bootstrap-server", proxy.bootstrap, "--topic", topic, "--command-config", path)
        java.java_tool(java.CONSOLE_PRODUCER, *reach, stdin="one\ntwo\n")
        limits = ("--from-beginning", "--max-messages", "2", "--timeout-ms", "60000")
        assert java.java_tool(java.CONSOLE_CONSUMER, *reach, *limits).stdout == "one\ntwo\n"
    assert b"two" not in kafka_sasl.stored_bytes(topic)


class Unsecured(AbstractTokenProvider):
    """A token that says who it is for, and is signed by nobody."""

    async def token(self) -> str:
        now = int(time.time())
        parts = ({"alg": "none"}, {"sub": "alice", "iat": now, "exp": now + 600})
        return (
            ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + "."
        )


@pytest.mark.parametrize("mechanism", MECHANISMS)
async def test_aiokafka(kafka_sasl: Cluster, proxy: Proxy, topic: str, mechanism: str):
    kafka_sasl.create_topic(topic)
    who = login("alice", mechanism)
    settings = kafka_sasl.aiokafka_settings(who, bootstrap=proxy.bootstrap, security=Security.SASL_PLAINTEXT)
    if mechanism == "OAUTHBEARER":
        settings |= {"sasl_oauth_token_provider": Unsecured()}
    await aiokafka_produce(settings, topic, RECORDS)
    assert await aiokafka_read(settings, topic) == numbered(RECORDS)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
def test_kafkajs(kafka_sasl: Cluster, proxy: Proxy, topic: str, mechanism: str):
    kafka_sasl.create_topic(topic)
    who = login("bob", mechanism)
    kafkajs_produce(proxy.bootstrap, topic, [b"one"], login=who)
    (found,) = kafkajs_consume(proxy.bootstrap, topic, topic, 1, login=who)
    assert found.value == b"one"


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_a_wrong_password(kafka_sasl: Cluster, proxy: Proxy, mechanism: str):
    """The error is the one that the client has without a proxy."""
    wrong = Login(username=WRONG.username, password=WRONG.password, mechanism=mechanism)
    through = librdkafka_login_error(local(kafka_sasl, proxy, wrong))
    assert through == librdkafka_login_error(kafka_sasl.client_settings(wrong)) == KafkaError._AUTHENTICATION


async def test_a_wrong_password_of_other_clients(
    kafka_sasl: Cluster, proxy: Proxy, topic: str, caplog: pytest.LogCaptureFixture
):
    kafka_sasl.create_topic(topic)
    to_proxy = {"bootstrap": proxy.bootstrap, "security": Security.SASL_PLAINTEXT}
    producer = AIOKafkaProducer(**kafka_sasl.aiokafka_settings(WRONG, **to_proxy))
    try:
        with pytest.raises(AioKafkaError):
            await producer.start()
    finally:
        await producer.stop()
    assert "Invalid username or password" in caplog.text
    with java.properties_file(kafka_sasl.java_settings(WRONG, **to_proxy)) as path:
        reach = ("--bootstrap-server", proxy.bootstrap, "--topic", topic, "--command-config", path)
        done = java.java_tool(java.CONSOLE_PRODUCER, *reach, stdin="one\n", check=False)
    assert (
        "SaslAuthenticationException: Authentication failed: Invalid username or password" in done.stdout + done.stderr
    )
    assert kafka_sasl.stored_bytes(topic) == b""


def raw_login(client: RawClient, user: str, password: str) -> bytes:
    """SaslHandshake v0, and a token that is no Kafka request, as clients of 2015 do it."""
    answer = client.ask(ApiKey.SASL_HANDSHAKE, 0, {"mechanism": "PLAIN"})
    assert answer.error_code == 0
    token = f"\0{user}\0{password}".encode()
    client.socket.sendall(len(token).to_bytes(4, "big") + token)
    return client.receive_frame()


def test_handshake_v0(kafka_sasl: Cluster, proxy: Proxy, topic: str):
    """The login passes, and what is produced afterwards on the connection is sealed all the same."""
    kafka_sasl.create_topic(topic)
    with RawClient(proxy.bootstrap) as client:
        assert raw_login(client, "alice", USERS["alice"]) == b""
        for number in range(3):
            assert client.produce({topic: {0: batch([b"canary %d" % number])}})[topic, 0] == (0, number)
        assert [value for _, value in client.fetch(topic).values] == [b"canary 0", b"canary 1", b"canary 2"]
    assert b"canary" not in kafka_sasl.stored_bytes(topic)
    assert kafka_sasl.stored_bytes(topic).count(MAGIC) == 3


def test_handshake_v0_with_a_wrong_password(kafka_sasl: Cluster, proxy: Proxy):
    with RawClient(proxy.bootstrap) as client, pytest.raises(ConnectionClosedError):
        raw_login(client, "alice", WRONG.password)


def test_handshake_v0_is_not_advertised(proxy: Proxy):
    with RawClient(proxy.bootstrap) as client:
        answer = client.ask(ApiKey.API_VERSIONS, 0, {})
    assert next(row.min_version for row in answer.api_keys if row.api_key == ApiKey.SASL_HANDSHAKE) == 1


def test_no_produce_without_login(kafka_sasl: Cluster, proxy: Proxy, topic: str):
    """The broker closes, as it does without a proxy."""
    kafka_sasl.create_topic(topic)
    with RawClient(proxy.bootstrap) as client, pytest.raises(ConnectionClosedError):
        client.produce({topic: {0: batch([b"one"])}})
    assert kafka_sasl.stored_bytes(topic) == b""
