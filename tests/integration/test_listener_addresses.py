"""Where a listener listens, where its clients find each broker, and which addresses may connect."""

import socket
import sys
from pathlib import Path

import pytest

from tests.support.clients import Record, by_partition, librdkafka_produce, librdkafka_read, numbered
from tests.support.kafka import Cluster
from tests.support.proxy import kveil, kveil_proxy
from tests.support.raw_client import RawClient

SECONDS = 30.0
T = 1_700_000_000_000
RECORDS = [Record(value=b"%d" % number, partition=number % 3, timestamp=T) for number in range(30)]


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    "host", ["127.0.0.1", pytest.param("::1", marks=pytest.mark.skipif(not has_ipv6(), reason="no IPv6"))]
)
def test_localhost_is_either(kafka: Cluster, topic: str, host: str):
    """The bootstrap port and the brokers' answer at both; clients are told the name."""
    kafka.create_topic(topic)
    with kveil_proxy(kafka.bootstrap, start=False) as proxy:
        proxy.config["listeners"] = [{"address": f"localhost:{proxy.port}"}]
        proxy.start()
        for port in (proxy.port, proxy.port + 1):
            with socket.create_connection((host, port), SECONDS) as plain, RawClient(f"127.0.0.1:{port}") as client:
                client.socket.close()
                client.socket = plain
                found = client.metadata(topic).brokers
                assert [(each.host, each.port) for each in found] == [("localhost", proxy.port + 1)]
        records = numbered([Record(value=b"one", timestamp=T)])
        librdkafka_produce(f"localhost:{proxy.port}", topic, records)
        assert librdkafka_read(f"localhost:{proxy.port}", topic) == records


@pytest.mark.skipif(sys.platform != "linux", reason="all of 127.0.0.0/8 is there on Linux alone")
def test_an_address_for_each_broker(kafka3: Cluster, topic: str):
    kafka3.create_topic(topic, partitions=3)
    nodes = [node.id for node in kafka3.nodes]
    with kveil_proxy(kafka3.bootstrap, start=False) as proxy:
        proxy.config["listeners"][0]["addressing"] = "loopback"
        proxy.start()
        with RawClient(proxy.bootstrap) as client:
            found = {each.node_id: (each.host, each.port) for each in client.metadata(topic).brokers}
        assert found == {node: (f"127.0.0.{2 + node}", proxy.port) for node in nodes}
        librdkafka_produce(proxy.bootstrap, topic, RECORDS)
        assert librdkafka_read(proxy.bootstrap, topic) == by_partition(numbered(RECORDS))


def test_which_addresses_may_connect(kafka: Cluster):
    """Those of the list and of its groups; others are closed before a byte of them is read."""
    with kveil_proxy(kafka.bootstrap, start=False) as proxy:
        proxy.config["networks"] = {"office": ["10.0.0.0/8", "127.0.0.2"]}
        proxy.config["listeners"][0] |= {"name": "inner", "allow": ["127.0.0.8/30", "office"]}
        proxy.start()
        for source, may in (("127.0.0.2", True), ("127.0.0.9", True), ("127.0.0.1", False), ("127.0.0.12", False)):
            with RawClient(proxy.bootstrap) as client:
                client.socket.close()
                client.socket = socket.create_connection(("127.0.0.1", proxy.port), SECONDS, (source, 0))
                if may:
                    client.metadata()
                else:
                    assert client.is_closed_by_peer()
                    assert client.is_closed_by_peer()
        refused = proxy.events("address_refused")
        assert [(line["client"], line["listener"]) for line in refused] == [
            ("127.0.0.1", "inner"),
            ("127.0.0.12", "inner"),
        ]


def test_a_listener_for_each_security(kafka: Cluster, tmp_path: Path, topic: str):
    """Several in one process, each with its own: an open one for producers, one with an allow-list for consumers."""
    kafka.create_topic(topic)
    with (
        kveil_proxy(kafka.bootstrap, start=False, broker_ports=1) as proxy,
        kveil_proxy(kafka.bootstrap, start=False, broker_ports=1) as other,
    ):
        proxy.config["listeners"] = [
            {"address": proxy.bootstrap, "direction": "produce", "name": "in"},
            {"address": other.bootstrap, "direction": "consume", "name": "out", "allow": ["127.0.0.1"]},
        ]
        proxy.start()
        records = numbered([Record(value=b"one", timestamp=T)])
        librdkafka_produce(proxy.bootstrap, topic, records)
        assert librdkafka_read(other.bootstrap, topic) == records
        path = proxy.folder / "kveil.yaml"
        done = kveil("check", "-c", str(path), "--from", "127.0.0.3", "--listener", "out", topic)
        assert f"{topic}: at out, may produce: NO (the listener is for the other direction: consume)" in done.stdout
        assert "at out, may connect from 127.0.0.3: NO (not in the listener's allow)" in done.stdout
