"""Sessions that expire while the proxy is logged in by itself: its clients, who know nothing of it, don't notice."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from confluent_kafka import Consumer, KafkaError, Producer
from confluent_kafka.admin import AclOperation, ResourceType

from tests.support.clients import Record, librdkafka_produce, librdkafka_refusal
from tests.support.kafka import Cluster, Security, kafka_cluster
from tests.support.proxy import Proxy, kveil_proxy
from tests.support.security import USERS
from tests.support.token_server import CLIENT_ID, CLIENT_SECRET, TokenServer

SECONDS = 60.0
SESSION_SECONDS = 2.0
RUN_SECONDS = 3.2 * SESSION_SECONDS
MECHANISMS = ("SCRAM-SHA-512", "OAUTHBEARER")


@pytest.fixture(scope="module")
def short() -> Iterator[Cluster]:
    """A cluster that ends a connection at its first request after the session, and knows what alice may do."""
    settings = {"connections.max.reauth.ms": int(SESSION_SECONDS * 1000)}
    with kafka_cluster(security=Security.SASL_SSL, properties=settings, acls=True) as cluster:
        for operation in (AclOperation.READ, AclOperation.WRITE, AclOperation.DESCRIBE_CONFIGS):
            cluster.allow("alice", ResourceType.TOPIC, "*", operation)
        cluster.allow("alice", ResourceType.GROUP, "*", AclOperation.READ)
        yield cluster


@pytest.fixture(scope="module")
def token_server() -> Iterator[TokenServer]:
    with TokenServer() as server:
        server.life_seconds = 4.0
        yield server


def run(cluster: Cluster, sasl: dict[str, Any]):
    assert cluster.certificates is not None
    # Settings that are read again and again: the proxy's own questions go in between its logins.
    limits = {"limits": {"topic_settings_seconds": 0.2}}
    tls = {"ca": str(cluster.certificates.authority.path)}
    return kveil_proxy(cluster.bootstrap, tls=tls, to_cluster={"sasl": sasl}, config=limits)


def sasl_of(mechanism: str, user: str, folder: Path, server: TokenServer) -> dict[str, Any]:
    secret = folder / "secret"
    if mechanism == "OAUTHBEARER":
        secret.write_text(CLIENT_SECRET)
        client = {"client_id": CLIENT_ID, "client_secret": f"file:{secret}"}
        return {"mechanism": mechanism, "token_endpoint": server.url, **client}
    secret.write_text(USERS[user])
    return {"mechanism": mechanism, "username": user, "password": f"file:{secret}"}


@pytest.fixture(scope="module", params=MECHANISMS)
def proxy(
    request: pytest.FixtureRequest, short: Cluster, tmp_path_factory: pytest.TempPathFactory, token_server: TokenServer
) -> Iterator[Proxy]:
    folder = tmp_path_factory.mktemp("secrets")
    with run(short, sasl_of(request.param, "alice", folder, token_server)) as running:
        yield running
        unwanted = {"connection_failed", "connection_closed", "upstream_login_failed", "upstream_token_unavailable"}
        assert not [line for line in running.log() if line["event"] in unwanted]


class Connections:
    """How long the proxy has had its connections to the broker."""

    def __init__(self, proxy: Proxy, cluster: Cluster) -> None:
        self._process = psutil.Process(proxy.pid)
        self._port = int(cluster.bootstrap.rpartition(":")[2])
        self._since: dict[int, float] = {}
        self.oldest = 0.0

    def look(self) -> None:
        now = time.monotonic()
        found = self._process.net_connections()
        mine = {each.laddr.port for each in found if each.raddr and each.raddr.port == self._port}
        self._since = {port: self._since.get(port, now) for port in mine}
        self.oldest = max([self.oldest, *(now - since for since in self._since.values())])


def test_librdkafka(short: Cluster, proxy: Proxy, topic: str, token_server: TokenServer):
    """Every record is acknowledged and read, on connections that outlive their sessions, without an error."""
    short.create_topic(topic)
    answers: list[object] = []
    errors: list[KafkaError] = []
    settings = {"bootstrap.servers": proxy.bootstrap, "error_cb": errors.append, "log_level": 0}
    producer = Producer(settings)
    consumer = Consumer({**settings, "group.id": topic, "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    connections = Connections(proxy, short)
    read: list[bytes | None] = []
    sent = 0
    try:
        deadline = time.monotonic() + RUN_SECONDS
        while time.monotonic() < deadline:
            for _ in range(5):  # many requests under way when a session ends
                producer.produce(topic, b"%d" % sent, on_delivery=lambda error, _: answers.append(error))
                producer.poll(0)
                sent += 1
            read += [message.value() for message in consumer.consume(100, 0.02)]
            connections.look()
        assert producer.flush(SECONDS) == 0
        while len(read) < sent:
            read += [message.value() for message in consumer.consume(1, SECONDS)]
    finally:
        consumer.close()
    assert errors == []
    assert answers == [None] * sent
    assert read == [b"%d" % number for number in range(sent)]
    assert connections.oldest > 2.5 * SESSION_SECONDS


async def test_aiokafka(short: Cluster, proxy: Proxy, topic: str):
    """Requests without a pause: some is always under way when a login begins."""
    short.create_topic(topic)
    connections = Connections(proxy, short)
    async with (
        AIOKafkaProducer(bootstrap_servers=proxy.bootstrap) as producer,
        AIOKafkaConsumer(topic, bootstrap_servers=proxy.bootstrap, auto_offset_reset="earliest") as consumer,
    ):
        deadline = time.monotonic() + RUN_SECONDS
        sent = 0
        while time.monotonic() < deadline:
            await asyncio.gather(*(producer.send_and_wait(topic, b"%d" % (sent + each)) for each in range(3)))
            sent += 3
            connections.look()
        read = [await asyncio.wait_for(consumer.getone(), SECONDS) for _ in range(sent)]
    assert sorted(int(message.value) for message in read) == list(range(sent))
    assert connections.oldest > 2.5 * SESSION_SECONDS


def test_tokens_are_shared_and_renewed(short: Cluster, tmp_path: Path, topic: str):
    """Many connections, few tokens: one at a time, each for 80 % of its life."""
    short.create_topic(topic)
    with TokenServer() as server, run(short, sasl_of("OAUTHBEARER", "alice", tmp_path, server)) as proxy:
        server.life_seconds = 4.0
        began = time.monotonic()
        for number in range(6):
            librdkafka_produce(proxy.bootstrap, topic, [Record(value=b"%d" % number)])
        producer = Producer({"bootstrap.servers": proxy.bootstrap})
        while len(server.requests) < 3:
            producer.produce(topic, b"more")
            assert producer.flush(SECONDS) == 0
            assert time.monotonic() - began < SECONDS
            time.sleep(0.1)
        assert time.monotonic() - began >= 2 * 0.8 * 4.0
        asked = server.requests[0]
        assert (asked.client_id, asked.client_secret) == (CLIENT_ID, CLIENT_SECRET)
        assert asked.form == {"grant_type": "client_credentials"}


def test_the_principal_is_the_proxy_s(short: Cluster, tmp_path: Path, topic: str, token_server: TokenServer):
    """What the cluster allows is decided by the proxy's login: alice may write, bob may not."""
    short.create_topic(topic)
    for operation in (AclOperation.DESCRIBE, AclOperation.DESCRIBE_CONFIGS):
        short.allow("bob", ResourceType.TOPIC, topic, operation)
    with run(short, sasl_of("PLAIN", "bob", tmp_path, token_server)) as proxy:
        assert librdkafka_refusal(proxy.bootstrap, topic).code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
        assert short.stored_bytes(topic) == b""
        short.allow("bob", ResourceType.TOPIC, topic, AclOperation.WRITE)
        librdkafka_produce(proxy.bootstrap, topic, [Record(value=b"now")])
