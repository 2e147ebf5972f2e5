"""The proxy logs in to the cluster by itself, and its clients have no credentials at all."""

import os
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from tests.support import java
from tests.support.clients import (
    Record,
    aiokafka_produce,
    aiokafka_read,
    librdkafka,
    librdkafka_produce,
    librdkafka_read,
    numbered,
)
from tests.support.forward_proxy import ForwardProxy
from tests.support.kafka import Cluster, Security
from tests.support.pages import ROOT, blocks
from tests.support.ports import reserved_port_range
from tests.support.processes import Child
from tests.support.proxy import BROKER_PORTS, KVEIL, Proxy, kveil, kveil_proxy
from tests.support.raw_client import ConnectionClosedError, RawClient
from tests.support.security import USERS, login
from tests.support.token_server import CLIENT_ID, CLIENT_SECRET, TokenServer

MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER")
SECONDS = 30.0
RECORDS = [Record(value=b"%d" % number, key=b"key", timestamp=1_700_000_000_000) for number in range(50)]
MAGIC = b"\xc5\x4b\x56"
WRONG = "not-alice's"


@pytest.fixture(scope="module")
def token_server() -> Iterator[TokenServer]:
    with TokenServer() as server:
        yield server


class Secrets:
    """Files that the configuration refers to."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, name: str, value: str) -> str:
        place = self._folder / name
        place.write_text(value + "\n")
        return f"file:{place}"

    def sasl(self, mechanism: str, token_url: str = "", password: str = USERS["alice"]) -> dict[str, Any]:
        """A whole `upstream.sasl`."""
        if mechanism == "OAUTHBEARER":
            secret = self.put("client_secret", CLIENT_SECRET)
            return {
                "mechanism": mechanism,
                "token_endpoint": token_url,
                "client_id": CLIENT_ID,
                "client_secret": secret,
                "scope": "kafka",
                "extensions": {"logicalCluster": "lkc-1"},
            }
        return {"mechanism": mechanism, "username": "alice", "password": self.put("password", password)}


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Secrets:
    return Secrets(tmp_path_factory.mktemp("secrets"))


@contextmanager
def logged_in(cluster: Cluster, sasl: dict[str, Any], **more: Any) -> Iterator[Proxy]:
    """A proxy that logs in; it stumbles over nothing and tells no secret."""
    assert cluster.certificates is not None
    tls = {"ca": str(cluster.certificates.authority.path)}
    with kveil_proxy(cluster.bootstrap, tls=tls, to_cluster={"sasl": sasl, **more}) as running:
        yield running
        assert not running.events("connection_failed"), running.events("connection_failed")
        text = "\n".join(running.child.errors.so_far())
        assert not [secret for secret in (*USERS.values(), WRONG, CLIENT_SECRET) if secret in text]


@pytest.fixture(scope="module", params=MECHANISMS)
def proxy(
    request: pytest.FixtureRequest, kafka_sasl: Cluster, secrets: Secrets, token_server: TokenServer
) -> Iterator[Proxy]:
    with logged_in(kafka_sasl, secrets.sasl(request.param, token_server.url)) as running:
        yield running
        assert not running.events("upstream_login_failed")


class TestEveryMechanism:
    def test_librdkafka(self, kafka_sasl: Cluster, proxy: Proxy, topic: str):
        kafka_sasl.create_topic(topic)
        librdkafka_produce(proxy.bootstrap, topic, RECORDS)
        assert librdkafka_read(proxy.bootstrap, topic) == numbered(RECORDS)
        assert MAGIC in kafka_sasl.stored_bytes(topic)

    async def test_aiokafka(self, kafka_sasl: Cluster, proxy: Proxy, topic: str):
        kafka_sasl.create_topic(topic)
        await aiokafka_produce(proxy.bootstrap, topic, RECORDS)
        assert await aiokafka_read(proxy.bootstrap, topic) == numbered(RECORDS)

    def test_java(self, kafka_sasl: Cluster, proxy: Proxy, topic: str):
        kafka_sasl.create_topic(topic)
        reach = ("--bootstrap-server", proxy.bootstrap, "--topic", topic)
        java.java_tool(java.CONSOLE_PRODUCER, *reach, stdin="one\ntwo\n")
        limits = ("--from-beginning", "--max-messages", "2", "--timeout-ms", "60000")
        assert java.java_tool(java.CONSOLE_CONSUMER, *reach, *limits).stdout == "one\ntwo\n"


class TestRefusals:
    @pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
    def test_a_wrong_password(self, kafka_sasl: Cluster, secrets: Secrets, topic: str, mechanism: str):
        """The client is closed, one line has the broker's words, and a mended secret counts without a restart."""
        kafka_sasl.create_topic(topic)
        sasl = secrets.sasl(mechanism, password=WRONG)
        with logged_in(kafka_sasl, sasl) as proxy:
            for _ in range(5):
                with RawClient(proxy.bootstrap) as client, pytest.raises(ConnectionClosedError):
                    client.metadata()
            with pytest.raises(KafkaException):
                AdminClient({"bootstrap.servers": proxy.bootstrap, "log_level": 0}).list_topics(timeout=1.0)
            (line,) = proxy.events("upstream_login_failed")
            assert "broker refused the login: Authentication failed" in line["reason"]
            assert line["mechanism"] == mechanism
            secrets.sasl(mechanism)
            librdkafka_produce(proxy.bootstrap, topic, RECORDS)

    def test_an_expired_token(self, kafka_sasl: Cluster, secrets: Secrets):
        with TokenServer() as server, logged_in(kafka_sasl, secrets.sasl("OAUTHBEARER", server.url)) as proxy:
            server.age_seconds = 3600
            with RawClient(proxy.bootstrap) as client, pytest.raises(ConnectionClosedError):
                client.metadata()
            assert "invalid_token" in proxy.wait_for_event("upstream_login_failed")["reason"]

    def test_no_token(self, kafka_sasl: Cluster, secrets: Secrets):
        with TokenServer() as server, logged_in(kafka_sasl, secrets.sasl("OAUTHBEARER", server.url)) as proxy:
            server.instead = (400, {}, b'{"error": "invalid_scope"}')
            with RawClient(proxy.bootstrap) as client, pytest.raises(ConnectionClosedError):
                client.metadata()
            assert "invalid_scope" in proxy.wait_for_event("upstream_login_failed")["reason"]

    def test_a_listener_without_login(self, kafka: Cluster, secrets: Secrets):
        with kveil_proxy(kafka.bootstrap, to_cluster={"sasl": secrets.sasl("PLAIN")}) as proxy:
            with RawClient(proxy.bootstrap) as client, pytest.raises(ConnectionClosedError):
                client.metadata()
            assert "remove upstream.sasl" in proxy.wait_for_event("upstream_login_failed")["reason"]

    @pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
    def test_a_client_that_wants_to_log_in(self, kafka: Cluster, kafka_sasl: Cluster, secrets: Secrets, mechanism: str):
        """It is told what a plaintext broker tells it."""
        who = login("alice", mechanism)
        with logged_in(kafka_sasl, secrets.sasl("PLAIN")) as proxy:
            to_proxy = kafka_sasl.client_settings(who, bootstrap=proxy.bootstrap, security=Security.SASL_PLAINTEXT)
            to_broker = kafka.client_settings(who, security=Security.SASL_PLAINTEXT)
            through, direct = librdkafka_error(to_proxy), librdkafka_error(to_broker)
            assert through.code() == direct.code() == KafkaError._AUTHENTICATION
            assert "Request not valid in current SASL state" in through.str()
            assert "security.protocol" in proxy.wait_for_event("client_login_refused")["reason"]


def librdkafka_error(settings: dict[str, Any]) -> KafkaError:
    """The first error that a client is told of."""
    errors: list[KafkaError] = []
    admin = AdminClient(librdkafka(settings) | {"log_level": 0, "error_cb": errors.append})
    deadline = time.monotonic() + SECONDS
    while not errors:
        assert time.monotonic() < deadline
        admin.poll(0.1)
    return errors[0]


class TestForwardProxies:
    @pytest.mark.parametrize("scheme", ["http", "socks5"])
    @pytest.mark.parametrize("username", [None, "eve"])
    def test_the_way_to_the_cluster(
        self, kafka_sasl: Cluster, secrets: Secrets, topic: str, scheme: str, username: str | None
    ):
        """TLS and login on top; the broker's name is given on, not its address."""
        kafka_sasl.create_topic(topic)
        with ForwardProxy(scheme, username, "let eve:in") as forward:
            login_part = {} if username is None else {"proxy_password": secrets.put("forward", "let eve:in")}
            url = f"{scheme}://{'eve@' if username else ''}{forward.address}"
            bootstrap = kafka_sasl.bootstrap.replace("127.0.0.1", "localhost")
            with logged_in(kafka_sasl, secrets.sasl("PLAIN"), bootstrap=[bootstrap], proxy=url, **login_part) as proxy:
                librdkafka_produce(proxy.bootstrap, topic, RECORDS)
                assert librdkafka_read(proxy.bootstrap, topic) == numbered(RECORDS)
        assert "localhost" in {host for host, _ in forward.asked}

    def test_the_host_name_is_checked(self, kafka_sasl: Cluster, secrets: Secrets):
        """The proxy may lead a name anywhere; only its owner has the certificate."""
        _, _, port = kafka_sasl.bootstrap.rpartition(":")
        with ForwardProxy("socks5") as forward:
            more = {"bootstrap": [f"broker.example.net:{port}"], "proxy": f"socks5://{forward.address}"}
            with logged_in(kafka_sasl, secrets.sasl("PLAIN"), **more) as proxy:
                with RawClient(proxy.bootstrap) as client, pytest.raises(ConnectionClosedError):
                    client.metadata()
                reason = proxy.wait_for_event("upstream_unreachable")["reason"]
                assert "certificate is not accepted" in reason
            assert forward.asked == [("broker.example.net", int(port))]

    @pytest.mark.parametrize(
        ("scheme", "said"), [("http", "407 Proxy Authentication Required"), ("socks5", "socks5://")]
    )
    def test_a_wrong_password(self, kafka_sasl: Cluster, secrets: Secrets, scheme: str, said: str):
        with ForwardProxy(scheme, "eve", "right") as forward:
            more = {"proxy": f"{scheme}://eve@{forward.address}", "proxy_password": secrets.put("forward", WRONG)}
            with logged_in(kafka_sasl, secrets.sasl("PLAIN"), **more) as proxy:
                with RawClient(proxy.bootstrap) as client, pytest.raises(ConnectionClosedError):
                    client.metadata()
                assert said in proxy.wait_for_event("upstream_unreachable")["reason"]


def test_by_a_variable_as_the_readme_has_it(kafka_sasl: Cluster, secrets: Secrets, topic: str, tmp_path: Path):
    (lines,) = [block.lines for block in blocks(ROOT / "README.md") if "KVEIL_UPSTREAM__SASL=" in block.text]
    command, variable = (shlex.split(line, comments=True) for line in lines)
    name, _, value = variable[0].partition("=")
    assert kafka_sasl.certificates is not None
    assert kveil("keys", "init", "--keys", str(tmp_path / "keys.json")).returncode == 0
    kafka_sasl.create_topic(topic)
    with reserved_port_range(1 + BROKER_PORTS) as port:
        environment = {
            **os.environ,
            name: value.replace("file:/run/secrets/api", secrets.put("api", USERS["alice"])),
            "API_KEY": "alice",
            "KVEIL_UPSTREAM__TLS__CA": str(kafka_sasl.certificates.authority.path),
            "KVEIL_KEYS__PATH": str(tmp_path / "keys.json"),
            "KVEIL_LISTENERS__0__ADDRESS": f"127.0.0.1:{port}",
            "KVEIL_BROKER_PORTS__COUNT": str(BROKER_PORTS),
        }
        typed = [word.replace("pkc-1.example.net:9092", kafka_sasl.bootstrap) for word in command[1:]]
        with Child([*KVEIL, *typed], environment=environment) as proxy:
            proxy.errors.wait_for("listening", SECONDS)
            librdkafka_produce({"bootstrap.servers": f"127.0.0.1:{port}"}, topic, RECORDS)
            assert librdkafka_read({"bootstrap.servers": f"127.0.0.1:{port}"}, topic) == numbered(RECORDS)
            assert proxy.stop() == 0
    assert MAGIC in kafka_sasl.stored_bytes(topic)
