"""Sessions that expire (KIP-368): clients log in again on their live connections, between ordinary requests."""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from confluent_kafka import Consumer, Producer

from tests.support import java
from tests.support.clients import librdkafka
from tests.support.kafka import Cluster, Security, kafka_cluster
from tests.support.processes import Child
from tests.support.proxy import Proxy, kveil_proxy
from tests.support.security import login

SECONDS = 60.0
SESSION_SECONDS = 5.0
RUN_SECONDS = 2.5 * SESSION_SECONDS
RATE = 20


@pytest.fixture(scope="module")
def short() -> Iterator[Cluster]:
    """A cluster that ends a connection at its first request after the session, unless it has logged in again."""
    settings = {"connections.max.reauth.ms": int(SESSION_SECONDS * 1000)}
    with kafka_cluster(security=Security.SASL_SSL, properties=settings) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def proxy(short: Cluster) -> Iterator[Proxy]:
    assert short.certificates is not None
    # Settings that are read again and again: the proxy's own questions go in between the logins.
    limits = {"limits": {"topic_settings_seconds": 0.2}}
    with kveil_proxy(short.bootstrap, tls={"ca": str(short.certificates.authority.path)}, config=limits) as running:
        yield running
        assert not running.events("connection_failed")


class Connections:
    """How long a process has had its connections to the broker's port."""

    def __init__(self, pid: int, proxy: Proxy) -> None:
        self._process = psutil.Process(pid)
        self._port = proxy.port + 1
        self._since: dict[int, float] = {}
        self.oldest = 0.0

    def look(self) -> None:
        now = time.monotonic()
        found = self._process.net_connections()
        mine = {each.laddr.port for each in found if each.raddr and each.raddr.port == self._port}
        self._since = {port: self._since.get(port, now) for port in mine}
        self.oldest = max([self.oldest, *(now - since for since in self._since.values())])


def follow(child: Child, connections: Connections, is_done: Callable[[dict], bool]) -> None:
    """Read what a tool says until it is done, and watch its connections."""
    for line in child.lines.read(SECONDS):
        connections.look()
        if is_done(json.loads(line)):
            return
    raise AssertionError(f"it ended early: {child.lines.so_far()[-3:]}")


def run_java_producer(short: Cluster, proxy: Proxy, topic: str, mechanism: str) -> None:
    """Every record is acknowledged, and one connection has outlived two sessions."""
    count = int(RATE * RUN_SECONDS)
    settings = short.java_settings(
        login("alice", mechanism), bootstrap=proxy.bootstrap, security=Security.SASL_PLAINTEXT
    )
    with java.properties_file(settings) as path:
        reach = ("--bootstrap-server", proxy.bootstrap, "--topic", topic, "--command-config", path)
        flags = ("--max-messages", str(count), "--throughput", str(RATE))
        with java.start_java_tool(java.VERIFIABLE_PRODUCER, *reach, *flags) as producer:
            connections = Connections(producer.pid, proxy)
            last = str(count - 1)
            follow(producer, connections, lambda event: event.get("value") == last)
            assert producer.wait(SECONDS) == 0
            said = [json.loads(line)["name"] for line in producer.lines.so_far()]
    assert said.count("producer_send_success") == count
    assert "producer_send_error" not in said
    assert connections.oldest > 1.9 * SESSION_SECONDS


@pytest.mark.broker
def test_java(short: Cluster, proxy: Proxy, topic: str):
    """Two producers and a consumer at a time, each with another mechanism."""
    short.create_topic(topic)
    total = 2 * int(RATE * RUN_SECONDS)
    who = login("bob", "SCRAM-SHA-256")
    settings = short.java_settings(who, bootstrap=proxy.bootstrap, security=Security.SASL_PLAINTEXT)
    with java.properties_file(settings) as path, ThreadPoolExecutor(2) as pool:
        reach = ("--bootstrap-server", proxy.bootstrap, "--topic", topic, "--command-config", path)
        with java.start_java_tool(java.VERIFIABLE_CONSUMER, *reach, "--group-id", topic) as consumer:
            consumer.lines.wait_for("partitions_assigned", SECONDS)
            producers = [
                pool.submit(run_java_producer, short, proxy, topic, mechanism) for mechanism in ("PLAIN", "OAUTHBEARER")
            ]
            connections = Connections(consumer.pid, proxy)
            consumed: list[int] = []

            def is_done(event: dict) -> bool:
                if event["name"] == "records_consumed":
                    consumed.append(event["count"])
                return sum(consumed) >= total

            follow(consumer, connections, is_done)
            for producer in producers:
                producer.result()
    assert sum(consumed) == total
    assert connections.oldest > 1.9 * SESSION_SECONDS


@pytest.mark.broker
def test_librdkafka(short: Cluster, proxy: Proxy, topic: str):
    short.create_topic(topic)
    who = login("alice", "SCRAM-SHA-512")
    settings = short.client_settings(who, bootstrap=proxy.bootstrap, security=Security.SASL_PLAINTEXT)
    answers: list[object] = []
    producer = Producer(librdkafka(settings))
    consumer = Consumer(librdkafka(settings, group_id=topic, auto_offset_reset="earliest"))
    consumer.subscribe([topic])
    connections = Connections(psutil.Process().pid, proxy)
    read: list[bytes | None] = []
    try:
        deadline = time.monotonic() + RUN_SECONDS
        sent = 0
        while time.monotonic() < deadline:
            producer.produce(topic, b"%d" % sent, on_delivery=lambda error, _: answers.append(error))
            sent += 1
            assert producer.flush(SECONDS) == 0
            read += read_values(consumer, 100, 0.05)
            connections.look()
        while len(read) < sent:
            read += read_values(consumer, 1, SECONDS)
    finally:
        consumer.close()
    assert answers == [None] * sent
    assert read == [b"%d" % number for number in range(sent)]
    assert connections.oldest > 1.9 * SESSION_SECONDS


def read_values(consumer: Consumer, count: int, timeout: float) -> list[bytes | None]:
    messages = consumer.consume(count, timeout)
    assert not [message.error() for message in messages if message.error()]
    return [message.value() for message in messages]
