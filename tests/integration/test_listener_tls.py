"""TLS at the listener: who is believed, which certificate is shown, and what isn't TLS at all."""

import shutil
import signal
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import KafkaError

from tests.support import java
from tests.support.certificates import Certificate, CertificateAuthority
from tests.support.clients import (
    Record,
    aiokafka_produce,
    aiokafka_read,
    librdkafka_produce,
    librdkafka_read,
    librdkafka_refusal,
    numbered,
)
from tests.support.kafka import Cluster
from tests.support.listener import SecuredListener, secured_proxy
from tests.support.raw_client import ConnectionClosedError, RawClient
from tests.support.security import login
from tests.support.waiting import wait_until

SECONDS = 30.0
RECORDS = [Record(value=b"%d" % number, timestamp=1_700_000_000_000) for number in range(20)]
SUBJECT = "CN=client"
RULES = [
    {"match": "*.own", "mode": "batch", "producers": [SUBJECT], "consumers": [SUBJECT]},
    {"match": "*", "mode": "batch"},
]


@pytest.fixture(scope="module")
def mutual(kafka: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredListener]:
    """A listener that wants a client's certificate; topics in `*.own` are for one of them."""
    with secured_proxy(
        kafka.bootstrap,
        tmp_path_factory.mktemp("mutual"),
        client_ca=True,
        topics=RULES,
        config={"limits": {"login_seconds": 1}},
    ) as running:
        yield running


@pytest.fixture(scope="module")
def own(mutual: SecuredListener) -> Certificate:
    assert mutual.certificates is not None
    return mutual.certificates.client


@pytest.fixture
def owned(kafka: Cluster, topic: str) -> str:
    name = f"{topic}.own"
    kafka.create_topic(name)
    return name


def test_librdkafka(mutual: SecuredListener, own: Certificate, owned: str):
    settings = mutual.librdkafka(own=own)
    librdkafka_produce(settings, owned, RECORDS)
    assert librdkafka_read(settings, owned) == numbered(RECORDS)


async def test_aiokafka(mutual: SecuredListener, own: Certificate, owned: str):
    settings = mutual.aiokafka(own=own)
    await aiokafka_produce(settings, owned, RECORDS)
    assert await aiokafka_read(settings, owned) == numbered(RECORDS)


def test_java(mutual: SecuredListener, own: Certificate, owned: str):
    with java.properties_file(mutual.java(own=own)) as path:
        reach = ("--bootstrap-server", mutual.proxy.bootstrap, "--topic", owned, "--command-config", path)
        java.java_tool(java.CONSOLE_PRODUCER, *reach, stdin="one\n")
        limits = ("--from-beginning", "--max-messages", "1", "--timeout-ms", "60000")
        assert java.java_tool(java.CONSOLE_CONSUMER, *reach, *limits).stdout == "one\n"


def test_another_client_of_the_same_authority(mutual: SecuredListener, owned: str):
    assert mutual.certificates is not None
    other = mutual.certificates.authority.issue("other", hosts=())
    assert librdkafka_refusal(mutual.librdkafka(own=other), owned).code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
    wait_until(lambda: "CN=other" in [line["principal"] for line in mutual.proxy.events("access_refused")])


def handshake(listener: SecuredListener, own: Certificate | None = None, trusted: Path | None = None) -> bytes:
    """Shake hands and put a question. The server's certificate is returned; ConnectionClosedError if it refuses."""
    assert listener.certificates is not None
    context = ssl.create_default_context(cafile=trusted or listener.certificates.authority.path)
    if own is not None:
        context.load_cert_chain(own.chain, own.key)
    with RawClient(listener.proxy.bootstrap) as client:
        try:
            secured = client.socket = context.wrap_socket(client.socket, server_hostname="localhost")
            client.metadata()
        except (ssl.SSLError, ConnectionError) as error:
            raise ConnectionClosedError(str(error)) from error
        seen = secured.getpeercert(binary_form=True)
        assert seen is not None
        return seen


@pytest.mark.parametrize("kind", ["none", "of another authority"])
def test_a_client_that_can_not_prove_who_it_is(mutual: SecuredListener, tmp_path: Path, kind: str):
    own = None if kind == "none" else CertificateAuthority(tmp_path).issue("client", hosts=())
    with pytest.raises(ConnectionClosedError):
        handshake(mutual, own)
    assert "ertificate" in mutual.proxy.wait_for_event("tls_handshake_failed")["reason"]


@pytest.mark.parametrize("data", [b"\0\0\0\x10" + bytes(16), b"\x16\x03\x01\xff\xff" + bytes(100), b""])
def test_what_is_no_tls(mutual: SecuredListener, own: Certificate, data: bytes):
    """Garbage, half of a handshake, and silence: closed, soon, and others go on."""
    with RawClient(mutual.proxy.bootstrap) as client:
        client.socket.sendall(data)
        while client.socket.recv(1000):  # an alert
            pass
    handshake(mutual, own)


def replace(target: Certificate, new: Certificate) -> None:
    for old_path, new_path in ((target.chain, new.chain), (target.key, new.key)):
        beside = old_path.with_suffix(".new")
        shutil.copy(new_path, beside)
        beside.replace(old_path)


def test_a_new_certificate(kafka: Cluster, tmp_path: Path, topic: str):
    """Taken up by the next handshake; connections that stand stay; a broken file changes nothing."""
    kafka.create_topic(topic)
    with secured_proxy(kafka.bootstrap, tmp_path, tls=True) as listener:
        assert listener.certificates is not None
        authority, current = listener.certificates.authority, listener.certificates.broker
        context = ssl.create_default_context(cafile=authority.path)
        with RawClient(listener.proxy.bootstrap) as client:
            client.socket = context.wrap_socket(client.socket, server_hostname="localhost")
            client.metadata(topic)
            first = handshake(listener)
            replace(current, authority.issue("second"))
            second = handshake(listener)
            assert second != first
            listener.proxy.wait_for_event("certificate_reloaded", SECONDS)
            current.chain.write_text("half of")
            assert handshake(listener) == second
            assert handshake(listener) == second
            assert len(listener.proxy.events("certificate_reload_refused")) == 1
            listener.proxy.signal(signal.SIGHUP)
            assert listener.proxy.wait_for_event("config_reload_refused", SECONDS)["path"] == "listeners[0].tls.cert"
            replace(current, authority.issue("third"))
            assert handshake(listener) not in (first, second)
            client.metadata(topic)


def test_an_authority_that_is_no_longer_believed(kafka: Cluster, tmp_path: Path):
    with secured_proxy(kafka.bootstrap, tmp_path, client_ca=True) as listener:
        assert listener.certificates is not None
        authority, own = listener.certificates.authority, listener.certificates.client
        handshake(listener, own)
        trusted = tmp_path / "trusted.pem"
        shutil.copy(authority.path, trusted)
        CertificateAuthority(authority.path.parent, "Another CA")  # takes the place of the first one's file
        with pytest.raises(ConnectionClosedError):
            handshake(listener, own, trusted)
        listener.proxy.wait_for_event("tls_handshake_failed", SECONDS)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
def test_with_a_login(kafka: Cluster, tmp_path: Path, topic: str, mechanism: str):
    """SASL_SSL: the user counts."""
    kafka.create_topic(topic)
    rules = [{"match": "*", "mode": "batch", "producers": ["alice"], "consumers": ["alice"]}]
    with secured_proxy(kafka.bootstrap, tmp_path, tls=True, sasl=True, topics=rules) as listener:
        settings = listener.librdkafka(login("alice", mechanism))
        librdkafka_produce(settings, topic, RECORDS)
        assert librdkafka_read(settings, topic) == numbered(RECORDS)


def test_beyond_loopback(kafka: Cluster, tmp_path: Path, topic: str):
    """Every address of the machine, as a gateway has it: with TLS and logins it starts, and tells its name."""
    kafka.create_topic(topic)
    with secured_proxy(
        kafka.bootstrap, tmp_path, tls=True, sasl=True, listener={"advertised": "localhost"}
    ) as listener:
        listener.proxy.stop()
        listener.proxy.config["listeners"][0]["address"] = f"0.0.0.0:{listener.proxy.port}"
        listener.proxy.start()
        settings = listener.librdkafka(login("alice"))
        librdkafka_produce(settings, topic, RECORDS)
        assert librdkafka_read(settings, topic) == numbered(RECORDS)
