"""Sessions that expire (KIP-368): clients log in again on their live connections, between ordinary requests."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from confluent_kafka import Consumer, Producer

from tests.support import java
from tests.support.clients import librdkafka
from tests.support.kafka import Cluster, Security, kafka_cluster
from tests.support.processes import Child
from tests.support.proxy import Proxy, kveil_proxy
from tests.support.security import MECHANISMS, login

SECONDS = 60.0
SESSION_SECONDS = 2.0
RATE = 50


@pytest.fixture(scope="module")
def short() -> Iterator[Cluster]:
    """A cluster that ends a connection that hasn't logged in again in time."""
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


def connections(pid: int, proxy: Proxy) -> set[int]:
    """The client's own ports of its connections to the broker's port."""
    found = psutil.Process(pid).net_connections()
    return {each.laddr.port for each in found if each.raddr and each.raddr.port == proxy.port + 1}


def counted(child: Child, event: str, enough: int) -> int:
    """Read events of one kind until they have told of that many records."""
    seen = 0
    for line in child.lines.read(SECONDS):
        found = json.loads(line)
        if found["name"] == event:
            seen += found.get("count", 1)
            if seen >= enough:
                break
    return seen


def run_java(short: Cluster, proxy: Proxy, topic: str, mechanism: str) -> None:
    """A producer for three sessions: every record acknowledged, and a connection that outlived them."""
    count = int(RATE * SESSION_SECONDS * 3.5)
    with java.properties_file(java_settings(short, proxy, mechanism)) as path:
        reach = ("--bootstrap-server", proxy.bootstrap, "--topic", topic, "--command-config", path)
        flags = ("--max-messages", str(count), "--throughput", str(RATE))
        with java.start_java_tool(java.VERIFIABLE_PRODUCER, *reach, *flags) as producer:
            assert counted(producer, "producer_send_success", 1)
            before = connections(producer.pid, proxy)
            assert counted(producer, "producer_send_success", count - RATE) == count - RATE
            assert before & connections(producer.pid, proxy), "no connection outlived its session"
            assert producer.wait(SECONDS) == 0
            said = producer.lines.so_far()
    assert sum("producer_send_success" in line for line in said) == count
    assert not any("producer_send_error" in line for line in said)


def java_settings(short: Cluster, proxy: Proxy, mechanism: str) -> dict[str, str]:
    who = login("alice", mechanism)
    return short.java_settings(who, bootstrap=proxy.bootstrap, security=Security.SASL_PLAINTEXT)


def test_java(short: Cluster, proxy: Proxy, topic: str):
    """Producers of all mechanisms at once, since it takes its time, and a consumer of what they produce."""
    short.create_topic(topic)
    total = int(RATE * SESSION_SECONDS * 3.5) * len(MECHANISMS)
    with java.properties_file(java_settings(short, proxy, "SCRAM-SHA-256")) as path:
        reach = ("--bootstrap-server", proxy.bootstrap, "--topic", topic, "--command-config", path)
        with (
            java.start_java_tool(java.VERIFIABLE_CONSUMER, *reach, "--group-id", topic) as consumer,
            ThreadPoolExecutor(len(MECHANISMS)) as pool,
        ):
            producers = [pool.submit(run_java, short, proxy, topic, mechanism) for mechanism in MECHANISMS]
            assert counted(consumer, "records_consumed", 1)
            before = connections(consumer.pid, proxy)
            assert counted(consumer, "records_consumed", total) == total
            assert before & connections(consumer.pid, proxy), "no connection outlived its session"
            for producer in producers:
                producer.result()


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512"])
def test_librdkafka(short: Cluster, proxy: Proxy, topic: str, mechanism: str):
    short.create_topic(topic)
    settings = short.client_settings(
        login("alice", mechanism), bootstrap=proxy.bootstrap, security=Security.SASL_PLAINTEXT
    )
    failures: list[object] = []
    producer = Producer(librdkafka(settings))
    consumer = Consumer(librdkafka(settings, group_id=topic, auto_offset_reset="earliest"))
    consumer.subscribe([topic])
    try:
        read, sent, before = 0, 0, set[int]()
        began = time.monotonic()
        while time.monotonic() < began + 3.5 * SESSION_SECONDS:
            producer.produce(topic, b"%d" % sent, on_delivery=lambda error, _: failures.append(error))
            sent += 1
            assert producer.flush(SECONDS) == 0
            message = consumer.poll(0.05)
            while message is not None:
                assert message.error() is None
                assert message.value() == b"%d" % read
                read += 1
                before = before or connections(psutil.Process().pid, proxy)
                message = consumer.poll(0)
        assert before & connections(psutil.Process().pid, proxy), "no connection outlived its session"
        while read < sent:
            (message,) = consumer.consume(1, SECONDS)
            assert message.value() == b"%d" % read
            read += 1
    finally:
        consumer.close()
    assert len(failures) == sent
    assert not any(failures)
