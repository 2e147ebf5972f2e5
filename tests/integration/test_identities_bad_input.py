"""What people and machines are told where an identity, a ticket, a clock or the control topic isn't as it must be.

Nothing is sealed or opened meanwhile, and every sentence has a way out.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from confluent_kafka.admin import AclOperation, AdminClient, ResourceType

from kveil.protocol.identity.ticket import Ticket
from kveil.proxy.identity.moments import moment
from kveil.proxy.net.own_topic import plain_batch
from tests.support.admin_port import AdminPort, admin_port
from tests.support.kafka import Cluster, Security, kafka_cluster
from tests.support.members import Members, control_writer
from tests.support.processes import Child
from tests.support.proxy import KVEIL, Proxy, kveil, kveil_proxy
from tests.support.raw_client import RawClient
from tests.support.realm import DAY, Node, Realm, consumes, produces
from tests.support.security import USERS
from tests.support.waiting import wait_until

CONTROL = "_kveil.control"
NOT_ENOUGH_REPLICAS = 19
STORAGE_ERROR = 56
TOPIC_AUTHORIZATION_FAILED = 29
WRONG_SETUP = 2
SECONDS = 30.0
TEN_MINUTES = 600


@pytest.fixture(scope="module")
def kafka() -> Iterator[Cluster]:
    """A cluster with ACLs: nobody but admin may do anything."""
    with kafka_cluster(security=Security.SASL_SSL, acls=True) as cluster:
        yield cluster


@pytest.fixture
def members(kafka: Cluster, tmp_path: Path) -> Iterator[Members]:
    kafka.create_topic(CONTROL, config={"cleanup.policy": "compact"})
    with control_writer(kafka.internal_bootstrap) as write:
        yield Members(tmp_path, write, now=int(time.time()))
    if has_control_topic(kafka):
        kafka.delete_topic(CONTROL)


@pytest.fixture
def orders(kafka: Cluster, topic: str) -> str:
    name = f"orders-{topic}"
    kafka.create_topic(name)
    return name


def has_control_topic(kafka: Cluster) -> bool:
    admin = AdminClient({"bootstrap.servers": kafka.internal_bootstrap})
    return CONTROL in admin.list_topics(timeout=SECONDS).topics


def upstream_of(kafka: Cluster, user: str, folder: Path) -> dict[str, Any]:
    """How a proxy, or a command, reaches the cluster as one of its users."""
    secret = folder / f"{user}.password"
    secret.write_text(USERS[user])
    assert kafka.certificates is not None
    return {
        "bootstrap": kafka.bootstrap.split(","),
        "tls": {"ca": str(kafka.certificates.authority.path)},
        "sasl": {"mechanism": "PLAIN", "username": user, "password": f"file:{secret}"},
    }


class Running(NamedTuple):
    """A member's proxy, and its admin port."""

    proxy: Proxy
    admin: AdminPort

    def send(self, topic: str) -> int:
        with RawClient(self.proxy.bootstrap) as client:
            sent = plain_batch([(b"key", b"secret")], int(time.time() * 1000))
            return client.produce({topic: {0: sent}})[topic, 0][0]

    def read(self, topic: str) -> int | list[bytes | None]:
        with RawClient(self.proxy.bootstrap) as client:
            fetched = client.fetch(topic)
        return fetched.error or [value for _, value in fetched.values]

    def why_not_ready(self) -> str:
        check = self.admin.get("/readyz").json["checks"]["keys: identities"]
        return "" if check["ok"] else str(check["reason"])


@contextmanager
def running(kafka: Cluster, path: Path, user: str = "admin", *, start: bool = True) -> Iterator[Running]:
    """The proxy of the member whose directory it is."""
    with admin_port() as admin:
        config = {
            "upstream": upstream_of(kafka, user, path.parent),
            "keys": {"provider": "identities"},
            "identity": {"path": str(path)},
            "limits": {"refused_key_seconds": 0.001},
            **admin.config,
        }
        with kveil_proxy(kafka.bootstrap, keys=path.parent / "none.json", start=start, config=config) as proxy:
            yield Running(proxy, admin)
            assert not start or not any("exception" in line for line in proxy.log())


def sentence(error: str) -> str:
    """What a command says that fails: one line, and no traceback."""
    lines = [line for line in error.splitlines() if not line.startswith("{")]
    assert "Traceback" not in error
    assert len(lines) == 1, error
    return lines[0]


# Who is no member ------------------------------------------------------------------------------------------------


def change_credential(members: Members, node: Node, **times: int) -> None:
    """Give a member one of another time in place of its own."""
    del members.realm.live[node.body.serial]
    node.body, node.credential = members.realm.issue(node.keys, node.body.name, *node.body.grants, **times)
    members.publish(node.credential)
    members.checkpoint()


def let_it_expire(members: Members, node: Node) -> None:
    change_credential(members, node, not_before=members.now - 7 * DAY - 180, expires=members.now - 180)


def set_its_clock_back(members: Members, node: Node) -> None:
    """The authority's clock is ten minutes ahead of this host's, which is the same."""
    change_credential(members, node, not_before=members.now + TEN_MINUTES - 300, expires=members.now + DAY)


def revoke(members: Members, node: Node) -> None:
    members.revoke(node)


def copy_another_identity(members: Members, node: Node) -> None:
    """The private keys are those of somebody whom the realm has never seen."""
    elsewhere = Members(members.folder / "elsewhere", lambda _: None, now=members.now)
    elsewhere.folder.mkdir()
    stranger = elsewhere.join("stranger", produces("*"))
    (members.path(node) / "identity.json").write_bytes((elsewhere.path(stranger) / "identity.json").read_bytes())


NO_MEMBERS: list[tuple[Callable[[Members, Node], None], str]] = [
    (let_it_expire, "its credential has expired (its time is"),
    (set_its_clock_back, "its credential isn't valid yet (its time is"),
    (revoke, "the newest checkpoint doesn't list its credential"),
    (copy_another_identity, "no credential of it is known"),
]


@pytest.mark.parametrize(("undo", "why"), NO_MEMBERS, ids=[undo.__name__ for undo, _ in NO_MEMBERS])
def test_who_is_no_member_may_nothing(
    kafka: Cluster, members: Members, orders: str, undo: Callable[[Members, Node], None], why: str
):
    shop = members.join("shop", produces("*"), consumes("*"))
    with running(kafka, members.path(shop)) as before:
        assert before.send(orders) == 0
    undo(members, shop)
    with running(kafka, members.path(shop)) as after:
        assert after.send(orders) == TOPIC_AUTHORIZATION_FAILED
        assert after.read(orders) == TOPIC_AUTHORIZATION_FAILED
        assert why in after.why_not_ready()
        assert "Have the authority grant, or enrol this host anew; its fingerprint is" in after.why_not_ready()
        told = after.proxy.wait_for_event("identity_unusable")
        assert why in told["reason"]


def test_a_topic_that_was_not_granted(kafka: Cluster, members: Members, orders: str):
    shop = members.join("shop", produces("pay"))
    with running(kafka, members.path(shop)) as proxy:
        assert proxy.send(orders) == TOPIC_AUTHORIZATION_FAILED
        assert proxy.why_not_ready() == ""
        refused = [line["cloudevent"] for line in proxy.proxy.events("audit")]
        (why,) = {one["data"]["reason"] for one in refused if one["type"] == "io.kveil.key.refused"}
        assert why == f"shop wasn't granted to produce to {orders}"


def test_a_node_of_another_realm(kafka: Cluster, members: Members, orders: str):
    """Everything is in order, but on another cluster."""
    elsewhere = Members(members.folder / "elsewhere", lambda _: None, now=members.now, name="elsewhere")
    elsewhere.folder.mkdir()
    elsewhere.checkpoint()
    shop = elsewhere.join("shop", produces("*"))
    with running(kafka, elsewhere.path(shop)) as proxy:
        assert proxy.send(orders) == NOT_ENOUGH_REPLICAS
        reason = proxy.why_not_ready()
        assert "rollback: checkpoint 1 was seen before and isn't there" in reason
        assert "or it is another cluster" in reason
        assert "kveil authority checkpoint --all" in reason


def test_a_clock_that_is_ten_minutes_slow(kafka: Cluster, members: Members):
    """Commands say both times."""
    reader = members.join("billing", consumes("*"))
    created = members.now + TEN_MINUTES
    members.checkpoint(created=created)
    config = members.folder / "kveil.yaml"
    config.write_text(yaml.safe_dump({"upstream": upstream_of(kafka, "admin", members.folder)}))
    done = kveil("who-can-read", "orders", "--identity", str(members.path(reader)), "-c", str(config))
    assert done.returncode == WRONG_SETUP
    assert f"the newest checkpoint was signed at {moment(created)}, and this host's clock says" in sentence(done.stderr)
    assert done.stderr.rstrip().endswith("set the clock")


# What a node must remember ---------------------------------------------------------------------------------------

NEW = "run `kveil enroll` with a new ticket, and have the old identity revoked"


@pytest.mark.parametrize(
    ("name", "content", "why", "way_out"),
    [
        ("identity.json", None, "there is no", "kveil enroll"),
        ("membership.json", None, "there is no", "kveil enroll"),
        ("checkpoint.json", None, "there is no", NEW),
        ("checkpoint.json", "", "is damaged: it is no JSON object", NEW),
        ("checkpoint.json", '{"version": 1, "number": 1, "hash": "ab"}', "is damaged: its hash is no 32 bytes", NEW),
        ("membership.json", '{"version": 1, "authority": "ab"}', "is damaged: it has no realm", NEW),
        ("chain-0.json", "{}", "has version None, and this program knows 1 only", "Remove it"),
        ("chain-0.json", '{"version": 1}', "is damaged: it has no chain", "Remove it"),
    ],
)
def test_state_that_was_lost(kafka: Cluster, members: Members, name: str, content: str | None, why: str, way_out: str):
    """It doesn't start, and says how it will."""
    node = members.path(members.join("shop", produces("*")))
    path = node / name
    if content is None:
        path.unlink()
    else:
        path.touch(0o600)
        path.write_text(content)
    with running(kafka, node, start=False) as proxy:
        proxy.proxy.configure()
        done = kveil("run", "-c", str(proxy.proxy.config_path))
    assert done.returncode == WRONG_SETUP
    told = sentence(done.stderr)
    assert str(path) in told
    assert why in told
    assert way_out in told


# Tickets ---------------------------------------------------------------------------------------------------------


def test_tickets_that_let_nobody_in(kafka: Cluster, tmp_path: Path):
    """Cut, expired, invented, or of another realm; and a good one lets in afterwards."""
    directory, config = ("--authority", str(tmp_path / "authority")), tmp_path / "kveil.yaml"
    config.write_text(yaml.safe_dump({"upstream": upstream_of(kafka, "admin", tmp_path), "log": {"format": "json"}}))
    assert kveil("authority", "init", *directory, "--realm", "demo").returncode == 0
    made = kveil("authority", "ticket", *directory, "--role", "consumer", "--topics", "*", "--name", "billing")
    good = Ticket.from_text(made.stdout)
    foreign = Realm(name="foreign")

    def enroll(text: str) -> str:
        path = tmp_path / "ticket"
        path.write_text(text)
        done = kveil("enroll", str(path), "--identity", str(tmp_path / "node"), "-c", str(config), "--wait", "20")
        if done.returncode == 0:
            return ""
        assert done.returncode == WRONG_SETUP
        told = sentence(done.stderr)
        assert text.strip() not in told
        return told

    running = Child([*KVEIL, "authority", "run", *directory, "-c", str(config)])
    try:
        running.errors.wait_for('"authority_running"', SECONDS)
        assert "that is no ticket" in enroll("garbage")
        assert "It is the line that `kveil authority ticket` writes" in enroll(made.stdout[:-9])
        expired = replace(good, expires=int(time.time()) - 1)
        assert "ask for a new ticket, or set the clock if it is wrong" in enroll(expired.to_text())
        told = enroll(replace(good, realm="foreign", authority=foreign.authority.id).to_text())
        assert "or it is another cluster" in told
        invented = replace(good, secret=bytes(range(32)))
        assert "the authority doesn't know this ticket" in enroll(invented.to_text())
        assert enroll(good.to_text()) == ""
        listed = json.loads(kveil("authority", "list", *directory, "--json").stdout)
        assert [one["name"] for one in listed["members"]] == ["billing"]
        assert running.stop() == 0
    finally:
        if running.exit_code is None:
            running.kill()
        kafka.delete_topic(CONTROL)


# The control topic -----------------------------------------------------------------------------------------------


def test_a_control_topic_that_is_missing(kafka: Cluster, members: Members, orders: str):
    """A node doesn't make it: on a wrong cluster there would be one then. It goes on by itself when it is there."""
    shop = members.join("shop", produces("*"), consumes("*"))
    kafka.delete_topic(CONTROL)
    with running(kafka, members.path(shop)) as proxy:
        assert "there is no topic _kveil.control: is this the realm's cluster?" in proxy.why_not_ready()
        assert proxy.send(orders) == NOT_ENOUGH_REPLICAS
        assert not has_control_topic(kafka)
        kafka.create_topic(CONTROL, config={"cleanup.policy": "compact"})
        members.publish(members.realm.identity, shop.credential, *members.realm.checkpoints)
        wait_until(lambda: proxy.send(orders) == 0)
        assert proxy.read(orders) == [b"secret"]
        wait_until(lambda: proxy.why_not_ready() == "")


def test_a_control_topic_without_rights(kafka: Cluster, members: Members, orders: str):
    """None at all, then to read it, then to write it: it goes on by itself with each."""
    shop = members.join("shop", produces("*"), consumes("*"))
    for operation in (AclOperation.DESCRIBE, AclOperation.DESCRIBE_CONFIGS, AclOperation.READ, AclOperation.WRITE):
        kafka.allow("alice", ResourceType.TOPIC, orders, operation)
    rights = f"The login needs the ACLs Describe, Read and Write on the topic {CONTROL}"
    with running(kafka, members.path(shop)) as first:
        assert first.send(orders) == 0
    with running(kafka, members.path(shop), user="alice") as proxy:
        assert "topic_authorization_failed" in proxy.why_not_ready().lower()
        assert rights in proxy.why_not_ready()
        assert proxy.send(orders) == NOT_ENOUGH_REPLICAS
        assert proxy.read(orders) == STORAGE_ERROR
        assert rights in proxy.proxy.wait_for_event("own_topic_unread")["reason"]

        for operation in (AclOperation.DESCRIBE, AclOperation.READ):
            kafka.allow("alice", ResourceType.TOPIC, CONTROL, operation)
        wait_until(lambda: proxy.read(orders) == [b"secret"])
    with running(kafka, members.path(shop), user="alice") as proxy:
        assert proxy.send(orders) == NOT_ENOUGH_REPLICAS
        assert rights in proxy.proxy.wait_for_event("epoch_key_not_announced")["reason"]
        assert proxy.read(orders) == [b"secret"]
        kafka.allow("alice", ResourceType.TOPIC, CONTROL, AclOperation.WRITE)
        wait_until(lambda: proxy.send(orders) == 0)
        assert proxy.read(orders) == [b"secret", b"secret"]
