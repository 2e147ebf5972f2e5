"""TLS to the cluster: whom the proxy trusts, as whom it comes, and which versions it speaks."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.support.certificates import CertificateAuthority
from tests.support.clients import Record, librdkafka_produce, librdkafka_read, numbered
from tests.support.kafka import Cluster, Security, kafka_cluster
from tests.support.proxy import Proxy, kveil_proxy
from tests.support.raw_client import ConnectionClosedError, RawClient

SECONDS = 30.0
RECORDS = [Record(value=b"%d" % number, timestamp=1_700_000_000_000) for number in range(20)]


@pytest.fixture(scope="module")
def strict() -> Iterator[Cluster]:
    """A cluster that speaks TLS 1.2 alone and wants a client certificate."""
    settings = {
        "listener.name.client.ssl.client.auth": "required",
        "listener.name.client.ssl.enabled.protocols": "TLSv1.2",
    }
    with kafka_cluster(security=Security.SSL, properties=settings) as cluster:
        yield cluster


def round_trip(cluster: Cluster, proxy: Proxy, topic: str) -> None:
    cluster.create_topic(topic)
    librdkafka_produce(proxy.bootstrap, topic, RECORDS)
    assert librdkafka_read(proxy.bootstrap, topic) == numbered(RECORDS)
    assert b"\xc5\x4b\x56" in cluster.stored_bytes(topic)


def refusal(proxy: Proxy) -> str:
    """Connect, be closed, and give the reason in the log."""
    with RawClient(proxy.bootstrap) as client, pytest.raises(ConnectionClosedError):
        client.metadata()
    reason: str = proxy.wait_for_event("upstream_unreachable", SECONDS)["reason"]
    return reason


@pytest.mark.parametrize("separate", [True, False], ids=["two files", "one file"])
def test_client_certificate_and_tls_1_2(strict: Cluster, topic: str, separate: bool):
    assert strict.certificates is not None
    own = strict.certificates.client
    files = {"cert": str(own.chain), "key": str(own.key)} if separate else {"cert": str(own.both)}
    with kveil_proxy(strict.bootstrap, tls={"ca": str(strict.certificates.authority.path), **files}) as proxy:
        round_trip(strict, proxy, topic)


def test_without_the_client_certificate(strict: Cluster):
    """The broker ends the connection; the client gets no answer and no hint of success."""
    assert strict.certificates is not None
    with kveil_proxy(strict.bootstrap, tls={"ca": str(strict.certificates.authority.path)}) as proxy:
        with RawClient(proxy.bootstrap) as client, pytest.raises(ConnectionClosedError):
            client.metadata()
        with pytest.raises(KafkaException):
            AdminClient({"bootstrap.servers": proxy.bootstrap, "log_level": 0}).list_topics(timeout=1.0)


def test_tls_1_3_where_1_2_is_all_there_is(strict: Cluster):
    assert strict.certificates is not None
    own = strict.certificates.client
    tls = {"ca": str(strict.certificates.authority.path), "cert": str(own.both), "min_version": "1.3"}
    with kveil_proxy(strict.bootstrap, tls=tls) as proxy:
        assert "protocol" in refusal(proxy).lower()


def test_another_authority(kafka_sasl: Cluster, tmp_path: Path):
    other = CertificateAuthority(tmp_path, "Another CA")
    with kveil_proxy(kafka_sasl.bootstrap, tls={"ca": str(other.path)}) as proxy:
        assert "certificate is not accepted" in refusal(proxy)


def test_the_systems_roots_do_not_know_a_private_authority(kafka_sasl: Cluster):
    with kveil_proxy(kafka_sasl.bootstrap, tls={}) as proxy:
        assert "certificate is not accepted" in refusal(proxy)


def test_tls_to_a_plaintext_listener(kafka: Cluster):
    with kveil_proxy(kafka.bootstrap, tls={}) as proxy:
        assert refusal(proxy)


@contextmanager
def tls_server(authority: CertificateAuthority, hosts: tuple[str, ...], version: ssl.TLSVersion) -> Iterator[tuple]:
    """A server that shakes hands and notes the version, or that the other side gave up."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = version
    own = authority.issue("server", hosts=hosts)
    context.load_cert_chain(own.chain, own.key)
    seen: list[str | None] = []
    done = threading.Event()

    def serve(listening: socket.socket) -> None:
        taken, _ = listening.accept()
        with taken:
            try:
                with context.wrap_socket(taken, server_side=True) as secured:
                    seen.append(secured.version() if secured.recv(1) else None)
            except OSError:
                seen.append(None)
        done.set()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(SECONDS)
        thread = threading.Thread(target=serve, args=(listening,))
        thread.start()
        yield listening.getsockname()[1], seen, done
        thread.join(SECONDS)


@pytest.mark.parametrize(
    ("version", "hosts", "seen"),
    [
        (ssl.TLSVersion.TLSv1_3, ("localhost", "127.0.0.1"), "TLSv1.3"),
        (ssl.TLSVersion.TLSv1_2, ("localhost", "127.0.0.1"), "TLSv1.2"),
        (ssl.TLSVersion.TLSv1_3, ("localhost", "127.0.0.2", "broker.example.net"), None),
        (ssl.TLSVersion.TLSv1_3, (), None),
    ],
    ids=["1.3", "1.2", "other names", "no names"],
)
def test_the_host_name_is_checked(tmp_path: Path, version: ssl.TLSVersion, hosts: tuple[str, ...], seen: str | None):
    """A good certificate of the right authority that is somebody else's; the first two show that names decide."""
    authority = CertificateAuthority(tmp_path)
    with (
        tls_server(authority, hosts, version) as (port, found, done),
        kveil_proxy(f"127.0.0.1:{port}", tls={"ca": str(authority.path)}) as proxy,
        RawClient(proxy.bootstrap) as client,
    ):
        with pytest.raises(ConnectionClosedError):
            client.metadata()
        assert done.wait(SECONDS)
        assert found == [seen]
        if seen is None:
            assert "certificate is not accepted" in proxy.wait_for_event("upstream_unreachable")["reason"]
