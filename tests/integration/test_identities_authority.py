"""An authority and its nodes over a real cluster, as people use them: the commands, with a login over TLS."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest
import yaml
from confluent_kafka.admin import AdminClient

from tests.support.admin_port import AdminPort, admin_port
from tests.support.clients import Record, librdkafka_produce, librdkafka_read, numbered
from tests.support.kafka import Cluster
from tests.support.key_services.pkcs11 import Server as TokenServer
from tests.support.processes import Child
from tests.support.proxy import KVEIL, Proxy, kveil, kveil_proxy
from tests.support.raw_client import RawClient
from tests.support.security import USERS, login

CONTROL_TOPIC = "_kveil.control"
SECONDS = 30.0
T = 1_700_000_000_000
TOPIC_AUTHORIZATION_FAILED = 29
WRONG_SETUP = 2


class Place:
    """A directory with a realm's authority, nodes, and a configuration that reaches the cluster."""

    def __init__(self, folder: Path, cluster: Cluster) -> None:
        self.folder = folder
        self.config = folder / "kveil.yaml"
        assert cluster.certificates is not None
        secret = folder / "password"
        secret.write_text(USERS["alice"])
        upstream = {
            "bootstrap": cluster.bootstrap.split(","),
            "tls": {"ca": str(cluster.certificates.authority.path)},
            "sasl": {"mechanism": "SCRAM-SHA-512", "username": "alice", "password": f"file:{secret}"},
        }
        audit = {"file": {"path": str(folder / "audit.jsonl")}}
        self.config.write_text(yaml.safe_dump({"upstream": upstream, "log": {"format": "json"}, "audit": audit}))

    def audited(self) -> set[tuple[str, str]]:
        """What the audit's file has: what happened, by which command."""
        events = map(json.loads, (self.folder / "audit.jsonl").read_text().splitlines())
        return {(one["type"].removeprefix("io.kveil."), one["data"]["operation"]) for one in events}

    def authority(self, command: str, *arguments: str, online: bool = True) -> subprocess.CompletedProcess[str]:
        reach = ("-c", str(self.config)) if online else ()
        return kveil("authority", command, *arguments, "--authority", str(self.folder / "authority"), *reach)

    def ticket(self, name: str, *arguments: str) -> Path:
        made = self.authority("ticket", *arguments, online=False)
        assert made.returncode == 0, made.stderr
        path = self.folder / f"{name}.ticket"
        path.write_text(made.stdout)
        return path

    def enroll(self, node: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return kveil("enroll", *arguments, "--identity", str(self.folder / node), "-c", str(self.config))

    def proxy_of(self, cluster: Cluster, node: str, direction: str) -> AbstractContextManager[Proxy]:
        """The proxy of an enrolled node."""
        upstream = yaml.safe_load(self.config.read_text())["upstream"]
        return kveil_proxy(
            cluster.bootstrap,
            keys=self.folder / "none.json",
            direction=direction,
            tls=upstream["tls"],
            to_cluster={"sasl": upstream["sasl"]},
            config={"keys": {"provider": "identities"}, "identity": {"path": str(self.folder / node)}},
        )

    def listed(self) -> dict[str, dict[str, object]]:
        done = self.authority("list", "--json", online=False)
        return {one["name"]: one for one in json.loads(done.stdout)["members"]}

    def fingerprint(self, node: str) -> str:
        done = kveil("identity", "show", "--identity", str(self.folder / node), "--json")
        return str(json.loads(done.stdout)["fingerprint"])

    def readers(self, node: str, topic: str) -> list[str]:
        done = kveil("who-can-read", topic, "--identity", str(self.folder / node), "-c", str(self.config), "--json")
        assert done.returncode == 0, done.stderr
        return [one["name"] for one in json.loads(done.stdout)["readers"]]

    @contextmanager
    def running(self, *arguments: str, admin: AdminPort | None = None) -> Iterator[Child]:
        """`authority run`, until it is told to stop."""
        more = {} if admin is None else {"KVEIL_ADMIN__ADDRESS": admin.config["admin"]["address"]}
        where = ("--authority", str(self.folder / "authority"), "-c", str(self.config))
        child = Child([*KVEIL, "authority", "run", *where, *arguments], environment={**os.environ, **more})
        try:
            child.errors.wait_for('"authority_running"', SECONDS)
            yield child
            assert child.stop() == 0
            text = "\n".join(child.errors.so_far())
            assert "kveil1." not in text
            assert "Traceback" not in text
        finally:
            if child.exit_code is None:
                child.kill()


@pytest.fixture
def place(tmp_path: Path, kafka_sasl: Cluster) -> Iterator[Place]:
    """A realm of its own on a topic of its own: the last test's is gone."""
    made = Place(tmp_path, kafka_sasl)
    done = made.authority("init", "--realm", "demo", online=False)
    assert done.returncode == 0, done.stderr
    yield made
    admin = AdminClient(kafka_sasl.client_settings(login("admin")))
    if CONTROL_TOPIC in admin.list_topics(timeout=SECONDS).topics:
        kafka_sasl.delete_topic(CONTROL_TOPIC)


def test_the_walk_through(place: Place):
    """Tickets for a consumer and a producer, a grant, who can read, a revocation."""
    consumer = place.ticket("consumer", "--role", "consumer", "--topics", "demo-*", "--name", "reader")
    producer = place.ticket("producer", "--role", "producer", "--topics", "demo-*", "--name", "writer")
    with admin_port() as admin, place.running(admin=admin) as running:
        for node, ticket in (("c", consumer), ("p", producer)):
            done = place.enroll(node, str(ticket))
            assert done.returncode == 0, done.stderr
            assert "kveil1." not in done.stdout + done.stderr
        assert "Enrolled as writer in realm demo: producer demo-*" in done.stdout
        assert list(place.listed()) == ["reader", "writer"]
        assert place.listed()["reader"]["fingerprint"] == place.fingerprint("c")
        assert place.readers("p", "demo-1") == ["reader"]
        assert place.readers("p", "other") == []

        again = place.enroll("thief", str(consumer))
        assert again.returncode == 2
        assert "was used by another node before" in again.stderr
        running.errors.wait_for("io.kveil.identity.alarm", SECONDS)
        assert list(place.listed()) == ["writer"], "the first one may have been the thief"
        metrics = admin.metrics()
        assert metrics["kveil_identity_events_total", "ticket.redeemed", ""] == 2
        assert metrics["kveil_identity_events_total", "ticket.refused", "used"] == 1
        assert metrics["kveil_identity_events_total", "identity.alarm", "ticket-reused"] == 1
        assert metrics["kveil_members",] == 1

        revoked = place.authority("revoke", "writer")
        assert revoked.returncode == 0, revoked.stderr
        assert place.listed() == {}
        assert place.readers("c", "demo-1") == []
    assert place.audited() >= {
        ("identity.enrolled", "kveil enroll"),
        ("ticket.redeemed", "kveil authority run"),
        ("identity.granted", "kveil authority run"),
        ("identity.alarm", "kveil authority run"),
        ("identity.revoked", "kveil authority revoke"),
    }


def test_a_grant_by_fingerprint(place: Place):
    """Bound: nothing secret travels, and the authority needn't run."""
    done = place.authority("checkpoint")
    assert done.returncode == 0, done.stderr
    fingerprint = json.loads(place.authority("list", "--json", online=False).stdout)["fingerprint"]
    asked = place.enroll("c", "--authority", fingerprint, "--wait", "1")
    assert asked.returncode == 1
    assert "the authority hasn't granted anything yet" in asked.stderr
    shown = place.fingerprint("c")
    granted = place.authority("grant", shown, "--role", "consumer", "--topics", "demo-*", "--history", "all")
    assert granted.returncode == 0, granted.stderr
    enrolled = place.enroll("c", "--authority", fingerprint)
    assert enrolled.returncode == 0, enrolled.stderr
    assert ("identity.granted", "kveil authority grant") in place.audited()
    assert "consumer demo-* (history all)" in enrolled.stdout
    unknown = place.authority("grant", "ab" * 32, "--role", "consumer", "--topics", "x")
    assert unknown.returncode == 2
    assert "nobody with this fingerprint has asked" in unknown.stderr


def test_an_authority_that_stays_offline(place: Place, tmp_path: Path):
    """It writes files, and somebody else publishes them."""
    out, keys = tmp_path / "records", tmp_path / "node.keys"

    def offline(command: str, *arguments: str) -> None:
        done = place.authority(command, *arguments, "--out", str(out), online=False)
        assert done.returncode == 0, done.stderr
        published = kveil("authority", "publish", str(out), "-c", str(place.config))
        assert published.returncode == 0, published.stderr

    offline("checkpoint")
    old = out.read_bytes()
    fingerprint = json.loads(place.authority("list", "--json", online=False).stdout)["fingerprint"]
    written = place.enroll("k", "--authority", fingerprint, "--out", str(keys))
    assert written.returncode == 0, written.stderr
    offline("grant", place.fingerprint("k"), "--role", "keeper", "--topics", "*", "--identity", str(keys))
    enrolled = place.enroll("k", "--authority", fingerprint)
    assert enrolled.returncode == 0, enrolled.stderr
    out.write_bytes(old)
    back = kveil("authority", "publish", str(out), "-c", str(place.config))
    assert back.returncode == 2
    assert "to go back would stop all nodes" in back.stderr


def test_a_restored_authority_goes_on_from_what_the_topic_has(place: Place, tmp_path: Path):
    """Its backup knows neither who came since nor who was revoked."""
    first = place.ticket("first", "--role", "consumer", "--topics", "*", "--name", "first")
    second = place.ticket("second", "--role", "consumer", "--topics", "*", "--name", "second")
    state = tmp_path / "authority" / "state.json"
    with place.running():
        assert place.enroll("one", str(first)).returncode == 0
        backup = state.read_bytes()
        assert place.enroll("two", str(second)).returncode == 0
        assert place.authority("revoke", "first").returncode == 0
    before = place.authority("list", "--json", online=False)
    state.write_bytes(backup)
    done = place.authority("checkpoint", "--json")
    assert done.returncode == 0, done.stderr
    assert list(place.listed()) == ["second"]
    number = json.loads(before.stdout)["checkpoint"]["number"]
    assert json.loads(done.stdout)["checkpoint"] >= number + 1000
    assert place.readers("two", "any") == ["second"]


def test_clients_write_and_read_with_no_shared_key(place: Place, kafka_sasl: Cluster, topic: str):
    """From tickets to records: two producers, a consumer that never met them, and one that came late."""
    name = f"demo-{topic}"
    kafka_sasl.create_topic(name)
    roles = {"p1": "producer", "p2": "producer", "c": "consumer", "late": "consumer"}
    tickets = {
        node: place.ticket(node, "--role", role, "--topics", "demo-*", "--name", node) for node, role in roles.items()
    }
    with place.running(), ExitStack() as stack:

        def proxy(node: str, direction: str) -> Proxy:
            done = place.enroll(node, str(tickets[node]))
            assert done.returncode == 0, done.stderr
            return stack.enter_context(place.proxy_of(kafka_sasl, node, direction))

        reader = proxy("c", "consume")
        sent = []
        for node in ("p1", "p2"):
            records = [Record(value=f"{node} {at}".encode(), key=b"k", timestamp=T) for at in range(5)]
            librdkafka_produce(proxy(node, "produce").bootstrap, name, records)
            sent += records
        assert librdkafka_read(reader.bootstrap, name) == numbered(sent)
        assert b"p1 0" not in kafka_sasl.stored_bytes(name)

        late = proxy("late", "consume")
        with RawClient(late.bootstrap) as client:
            assert client.fetch(name).error == TOPIC_AUTHORIZATION_FAILED, "its history begins when it joined"


def test_a_host_whose_keys_only_its_token_opens(place: Place, kafka_sasl: Cluster, topic: str, tmp_path: Path):
    """Enrolled, at work, and copied to where the token isn't."""
    name = f"demo-{topic}"
    kafka_sasl.create_topic(name)
    (tmp_path / "hsm").mkdir()
    with ExitStack() as stack:
        token = TokenServer(tmp_path / "hsm")
        stack.callback(token.stop)
        token.make_key("identity")
        pkcs11 = {**token.keys_settings()["pkcs11"], "key": "identity"}
        settings = yaml.safe_load(place.config.read_text())
        place.config.write_text(yaml.safe_dump({**settings, "identity": {"pkcs11": pkcs11}}))

        def proxy(node: str, direction: str, *, start: bool = True) -> Proxy:
            more = {
                "keys": {"provider": "identities"},
                "identity": {"path": str(place.folder / node), "pkcs11": pkcs11},
            }
            settings_of = settings["upstream"]
            return stack.enter_context(
                kveil_proxy(
                    kafka_sasl.bootstrap,
                    keys=place.folder / "none.json",
                    direction=direction,
                    tls=settings_of["tls"],
                    to_cluster={"sasl": settings_of["sasl"]},
                    config=more,
                    start=start,
                )
            )

        tickets = {
            node: place.ticket(node, "--role", role, "--topics", "demo-*", "--name", node)
            for node, role in (("c", "consumer"), ("p", "producer"))
        }
        with place.running():
            for node, ticket in tickets.items():
                done = place.enroll(node, str(ticket))
                assert done.returncode == 0, done.stderr
                assert set(json.loads((place.folder / node / "identity.json").read_text())) == {
                    "version",
                    "id",
                    "pkcs11",
                    "sealed",
                }
        sent = [Record(value=f"{at}".encode(), key=b"k", timestamp=T) for at in range(5)]
        reader = proxy("c", "consume")
        librdkafka_produce(proxy("p", "produce").bootstrap, name, sent)
        assert librdkafka_read(reader.bootstrap, name) == numbered(sent)
        assert reader.stop() == 0

        shutil.copytree(place.folder / "c", place.folder / "stolen")
        assert place.fingerprint("stolen") == place.fingerprint("c"), "which takes no token"
        token.pause()
        stolen = proxy("stolen", "consume", start=False)
        stolen.configure()
        for command in ("check", "run"):
            done = kveil(command, "--config", str(stolen.config_path))
            assert done.returncode == WRONG_SETUP
            assert "stolen/identity.json can't be opened: the pkcs11 module" in done.stderr
            assert "Traceback" not in done.stderr
        token.resume()
