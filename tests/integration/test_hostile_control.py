"""A hostile broker and the control topic: what it withholds, changes, replays and invents there, and what comes of it.

Sealing stops, or a batch doesn't open, and both are retriable; no record is sealed for who may not read it, or opened
as another's. Each test has a realm of its own on one topic: the records of the others are foreign to it.
"""

import json
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from kveil.protocol.envelope.batch import peek
from kveil.protocol.identity.credential import SKEW_SECONDS
from kveil.protocol.identity.record import encode_record
from kveil.protocol.identity.signing import RecordType, Signed, sign
from kveil.protocol.kafka.record_batch import read_header
from kveil.proxy.net.own_topic import plain_batch, records_of
from tests.support.admin_port import admin_port
from tests.support.hostile_broker import HIDDEN, HostileBroker, hostile_broker
from tests.support.kafka import Cluster, kafka_cluster
from tests.support.members import Members, Write, control_writer
from tests.support.processes import Child
from tests.support.proxy import KVEIL, Proxy, kveil, kveil_proxy
from tests.support.raw_client import RawClient
from tests.support.realm import DAY, Node, Realm, consumes, identity, produces, value_of
from tests.support.waiting import wait_until

CORRUPT_MESSAGE = 2
NOT_ENOUGH_REPLICAS = 19
STORAGE_ERROR = 56
CONTROL = "_kveil.control"
ENROLMENT = bytes((1, RecordType.ENROLMENT))


@dataclass
class Member:
    """A member's proxy behind a hostile broker of its own."""

    broker: HostileBroker
    proxy: Proxy

    def send(self, topic: str, value: bytes = b"secret") -> int:
        """Produce a record; returns the error."""
        with RawClient(self.proxy.bootstrap) as client:
            sent = plain_batch([(b"key", value)], int(time.time() * 1000))
            return client.produce({topic: {0: sent}})[topic, 0][0]

    def read(self, topic: str, offset: int = 0) -> int | list[bytes | None]:
        """The values from an offset on, or the error."""
        with RawClient(self.proxy.bootstrap) as client:
            fetched = client.fetch(topic, 0, offset)
        return fetched.error or [value for _, value in fetched.values]

    def alarms(self) -> set[str]:
        """The alarms that were raised, which the log and the audit must agree on."""
        audited = [one["cloudevent"] for one in self.proxy.events("audit")]
        kinds = {one["data"]["kind"] for one in audited if one["type"] == "io.kveil.identity.alarm"}
        return kinds & {one["kind"] for one in self.proxy.events("identity_alarm")}

    def wait_for_alarm(self, kind: str) -> None:
        wait_until(lambda: kind in self.alarms())

    def checkpoints(self) -> list[int]:
        """The numbers that it has come to believe."""
        return [one["number"] for one in self.proxy.events("checkpoint")]

    def withhold(self, *records: Signed) -> None:
        """Have its broker not show these."""
        values = {value_of(record) for record in records}
        self.broker.control = lambda _, value: HIDDEN if value in values else value

    def start_again(self) -> None:
        self.proxy.stop()
        self.proxy.start()


class World:
    """A realm with a producer and a consumer, and what runs of it."""

    def __init__(self, kafka: Cluster, folder: Path, write: Write, stack: ExitStack) -> None:
        self.kafka, self.write, self._stack = kafka, write, stack
        self.members = Members(folder, write, now=int(time.time()), name=f"realm-{uuid.uuid4().hex[:8]}")
        self.shop = self.members.join("shop", produces("*"), checkpoint=False)
        self.billing = self.members.join("billing", consumes("*"))

    def run(self, node: Node, **more: object) -> Member:
        """The member's proxy, and its broker, which is honest to begin with. `more` is of its configuration."""
        broker = self._stack.enter_context(hostile_broker(self.kafka.bootstrap))
        path = self.members.path(node)
        config = {
            "keys": {"provider": "identities"},
            "identity": {"path": str(path)},
            "limits": {"refused_key_seconds": 0.001},
            **more,
        }
        keys = self.members.folder / "none.json"
        proxy = self._stack.enter_context(kveil_proxy(broker.address, keys=keys, config=config))
        return Member(broker, proxy)

    def topic(self) -> str:
        name = f"orders-{uuid.uuid4().hex[:8]}"
        self.kafka.create_topic(name)
        return name

    def announcements(self) -> list[bytes]:
        """Those that stand on the control topic."""
        with RawClient(self.kafka.bootstrap) as direct:
            values = [value for _, _, value in records_of(direct.fetch(CONTROL).records)]
        return [value for value in values if value is not None and is_announcement(value)]

    def stored(self, topic: str) -> bytes:
        with RawClient(self.kafka.bootstrap) as direct:
            return direct.fetch(topic).batches[0]

    def publish_as_the_authority(self, forged: Signed) -> None:
        """As its signer's own, and once more with the authority's id where the signer's stands."""
        key, value = encode_record(forged)
        in_its_name = value.replace(forged.signer, self.members.realm.authority.id)
        self.write([(key, value), (key, in_its_name)])

    def another_checkpoint(self, **changes: object) -> Signed:
        """One with the number of the last, which stays the realm's own."""
        realm = self.members.realm
        last = realm.checkpoints.pop()
        made = realm.checkpoint(created=self.members.now - 1, expires=self.members.now + DAY, **changes)
        realm.checkpoints[-1] = last
        return made


@pytest.fixture(scope="module")
def kafka() -> Iterator[Cluster]:
    """A cluster for these tests alone: its control topic is theirs."""
    with kafka_cluster() as cluster:
        cluster.create_topic(CONTROL, config={"cleanup.policy": "compact"})
        yield cluster


@pytest.fixture
def world(kafka: Cluster, tmp_path: Path) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(kafka, tmp_path, stack.enter_context(control_writer(kafka.bootstrap)), stack)


@pytest.fixture(scope="module")
def pair(kafka: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Member, Member]]:
    """A producer and a consumer that several tests use. The consumer's broker is the hostile one."""
    with ExitStack() as stack:
        write = stack.enter_context(control_writer(kafka.bootstrap))
        made = World(kafka, tmp_path_factory.mktemp("pair"), write, stack)
        yield made, made.run(made.shop), made.run(made.billing)


# Checkpoints -----------------------------------------------------------------------------------------------------


def test_roll_back_the_checkpoint(world: World):
    """A node that has seen a newer one seals nothing and opens nothing, and says `rollback`."""
    shop, billing, topic = world.run(world.shop), world.run(world.billing), world.topic()
    assert shop.send(topic) == 0
    newer = world.members.checkpoint()
    for member in (shop, billing):
        wait_until(lambda member=member: member.checkpoints()[-1] == 2)
        member.withhold(newer)
        member.start_again()
        member.wait_for_alarm("rollback")
    assert shop.send(topic) == NOT_ENOUGH_REPLICAS
    assert billing.read(topic) == STORAGE_ERROR
    for member in (shop, billing):
        member.broker.be_honest()
        member.start_again()
    assert shop.send(topic) == 0
    assert billing.read(topic) == [b"secret", b"secret"]


def test_freeze_the_checkpoint(world: World):
    """Nothing is sealed beyond the lease; what was sealed goes on being read."""
    now = int(time.time())
    world.members.checkpoint(created=now - 1000, expires=now - SKEW_SECONDS + 3)
    shop, billing, topic = world.run(world.shop), world.run(world.billing), world.topic()
    assert shop.send(topic) == 0
    newer = world.members.realm.checkpoint(created=now, expires=now + DAY)
    shop.withhold(newer)
    billing.withhold(newer)
    world.members.publish(newer)
    wait_until(lambda: shop.send(topic) == NOT_ENOUGH_REPLICAS)
    shop.wait_for_alarm("freeze")
    values = billing.read(topic)
    assert isinstance(values, list)
    assert set(values) == {b"secret"}
    shop.broker.be_honest()
    shop.start_again()
    assert shop.send(topic) == 0
    assert billing.read(topic) == [*values, b"secret"]


def test_freeze_everything(world: World):
    """A cluster that says nothing any more: the end of the lease shows all the same, to people and to machines."""
    with admin_port() as admin:
        shop = world.run(world.shop, **admin.config)
        assert shop.send(world.topic()) == 0
        now = int(time.time())
        world.members.checkpoint(created=now - 1000, expires=now - SKEW_SECONDS + 4)
        wait_until(lambda: shop.checkpoints()[-1] == 2)
        shop.broker.freeze()
        shop.wait_for_alarm("freeze")
        check = admin.get("/readyz").json["checks"]["keys: identities"]
        assert "freeze: checkpoint 2 expired at" in check["reason"]
        assert admin.metrics()["kveil_identity_alarms", "freeze"] == 1
        done = kveil("health", "-c", str(shop.proxy.config_path))
        assert done.returncode == 1
        shop.broker.freeze(on=False)


def test_fork_the_checkpoint(world: World):
    """Two of one number: all stops."""
    shop, billing, topic = world.run(world.shop), world.run(world.billing), world.topic()
    assert shop.send(topic) == 0
    world.members.publish(world.another_checkpoint())
    for member in (shop, billing):
        member.wait_for_alarm("fork")
    assert shop.send(topic) == NOT_ENOUGH_REPLICAS
    assert billing.read(topic) == STORAGE_ERROR


def test_show_two_nodes_unlike_checkpoints(world: World):
    """Neither sees both. What the producer announces says which one it has."""
    topic = world.topic()
    one = world.members.realm.checkpoint(created=world.members.now, expires=world.members.now + DAY)
    other = world.another_checkpoint()
    shop, billing = world.run(world.shop), world.run(world.billing)
    shop.withhold(other)
    billing.withhold(one)
    world.members.publish(one, other)
    for member in (shop, billing):
        wait_until(lambda member=member: member.checkpoints()[-1] == 2)
    assert shop.send(topic) == 0
    assert billing.read(topic) == STORAGE_ERROR
    billing.wait_for_alarm("fork")
    (alarm,) = billing.proxy.events("identity_alarm")
    assert alarm["about"] == world.shop.keys.id.hex()


def test_invent_a_checkpoint(world: World):
    """By an authority of its own, in the realm's name; and one of another realm, of the same authority."""
    forged = Realm(name=world.members.realm.name)
    forged.authority = identity("mallory")
    elsewhere = Realm(name="elsewhere")
    shop, billing, topic = world.run(world.shop), world.run(world.billing), world.topic()
    for realm in (forged, elsewhere):
        made = realm.checkpoint(
            number=99, previous=bytes(range(32)), created=world.members.now, expires=world.members.now + DAY
        )
        world.publish_as_the_authority(made)
    world.members.checkpoint()
    for member in (shop, billing):
        wait_until(lambda member=member: member.checkpoints()[-1] == 2)
    assert shop.send(topic) == 0
    assert billing.read(topic) == [b"secret"]
    assert shop.alarms() == billing.alarms() == set()


# Members ---------------------------------------------------------------------------------------------------------


def test_withhold_a_credential(world: World):
    """The producer says whose is missing, seals on, and the one whose it is reads nothing yet."""
    shop, topic = world.run(world.shop), world.topic()
    times = {"not_before": world.members.now - 300, "expires": world.members.now + DAY}
    late = world.members.realm.node("late", consumes("*"), **times)
    shop.withhold(late.credential)
    world.members.publish(late.credential)
    world.members.checkpoint()
    shop.wait_for_alarm("withheld")
    (alarm,) = shop.proxy.events("identity_alarm")
    assert alarm["reason"] == f"the credential with serial {late.body.serial} isn't there"
    assert shop.send(topic) == 0
    assert readers(shop) == [1]


def readers(member: Member) -> list[int]:
    """How many may open each of the epoch keys that a member announced."""
    made = [one["cloudevent"] for one in member.proxy.events("audit")]
    return [one["data"]["readers"] for one in made if one["type"] == "io.kveil.key.created"]


def test_bring_a_revoked_reader_back(world: World):
    """Its credential and the checkpoint that listed it, once more at the topic's end."""
    shop, billing, topic = world.run(world.shop), world.run(world.billing), world.topic()
    spy = world.members.join("spy", consumes("*"))
    listing = world.members.realm.checkpoints[-1]
    world.members.revoke(spy)
    world.members.publish(spy.credential, listing)
    world.members.checkpoint()
    wait_until(lambda: shop.checkpoints()[-1] == 4)
    assert shop.send(topic) == 0
    assert readers(shop) == [1]
    assert billing.read(topic) == [b"secret"]


def test_invent_a_member(world: World):
    """A credential that another signed, and one that the authority signed and no checkpoint lists."""
    shop, topic = world.run(world.shop), world.topic()
    realm, times = world.members.realm, {"not_before": world.members.now - 300, "expires": world.members.now + DAY}
    unlisted = realm.node("unlisted", consumes("*"), list_it=False, **times)
    forged = Realm(name=realm.name, serial=50)
    forged.authority = identity("mallory")
    world.members.publish(unlisted.credential)
    world.publish_as_the_authority(forged.node("spy", consumes("*"), **times).credential)
    world.members.checkpoint()
    wait_until(lambda: shop.checkpoints()[-1] == 2)
    assert shop.send(topic) == 0
    assert readers(shop) == [1]


def test_replay_an_enrolment(kafka: Cluster, tmp_path: Path):
    """Of a node that was revoked since: it stays so, and the ticket lets nobody else in."""
    config, directory = tmp_path / "kveil.yaml", ("--authority", str(tmp_path / "authority"))
    config.write_text(yaml.safe_dump({"upstream": {"bootstrap": [kafka.bootstrap]}, "log": {"format": "json"}}))

    def authority(command: str, *arguments: str) -> str:
        done = kveil("authority", command, *arguments, *directory)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def enroll(name: str) -> None:
        ticket = tmp_path / f"{name}.ticket"
        ticket.write_text(authority("ticket", "--role", "consumer", "--topics", "*", "--name", name))
        done = kveil("enroll", str(ticket), "--identity", str(tmp_path / name), "-c", str(config))
        assert done.returncode == 0, done.stderr

    authority("init", "--realm", "replayed")
    running = Child([*KVEIL, "authority", "run", *directory, "-c", str(config)])
    try:
        running.errors.wait_for('"authority_running"', 30.0)
        enroll("spy")
        with RawClient(kafka.bootstrap) as direct:
            written = list(records_of(direct.fetch(CONTROL).records))
        (replayed,) = [(key, value) for _, key, value in written if value and value[:2] == ENROLMENT]
        authority("revoke", "spy", "-c", str(config))
        with control_writer(kafka.bootstrap) as write:
            write([replayed])
        enroll("later")  # whose request stands behind
        listed = json.loads(authority("list", "--json"))
        assert [one["name"] for one in listed["members"]] == ["later"]
        assert running.stop() == 0
    finally:
        if running.exit_code is None:
            running.kill()


# Announcements ---------------------------------------------------------------------------------------------------


def is_announcement(value: bytes | None) -> bool:
    return value is not None and value[:2] == bytes((1, RecordType.ANNOUNCEMENT))


Lie = Callable[[bytes], bytes | None]


def hide(_: bytes) -> bytes:
    return HIDDEN


def put_a_tombstone(_: bytes) -> None:
    return None


def edit_a_wrap(value: bytes) -> bytes:
    return value[:-120] + bytes((value[-120] ^ 1,)) + value[-119:]


def edit_the_signature(value: bytes) -> bytes:
    return value[:-1] + bytes((value[-1] ^ 1,))


def pass_it_as_a_beacon(value: bytes) -> bytes:
    return value[:1] + bytes((RecordType.BEACON,)) + value[2:]


def truncate(value: bytes) -> bytes:
    return value[:-9]


def downgrade_the_version(value: bytes) -> bytes:
    return b"\0" + value[1:]


def nest_without_end(value: bytes) -> bytes:
    return value[:2] + b"\x81" * 100_000


def claim_a_huge_length(value: bytes) -> bytes:
    return value[:2] + b"\x9b" + b"\x7f" * 8


LIES: list[Lie] = [
    hide,
    put_a_tombstone,
    edit_a_wrap,
    edit_the_signature,
    pass_it_as_a_beacon,
    truncate,
    downgrade_the_version,
    nest_without_end,
    claim_a_huge_length,
]


@pytest.mark.parametrize("lie", LIES, ids=[lie.__name__ for lie in LIES])
def test_announcement_that_is_not_told(pair: tuple[World, Member, Member], lie: Lie):
    """What it announces doesn't open, retriably, and the log says why. The rest is served."""
    world, shop, billing = pair
    known = set(world.announcements())
    hidden: set[bytes] = set()

    def told(_: bytes | None, value: bytes | None) -> bytes | None:
        if not is_announcement(value) or value in known:
            return value
        hidden.add(value)
        return lie(value)

    billing.broker.control = told
    topic = world.topic()
    assert shop.send(topic) == 0
    assert billing.read(topic) == STORAGE_ERROR

    def missing() -> list[str]:
        return [one["reason"] for one in billing.proxy.events("epoch_key_missing") if one["topic"] == topic]

    wait_until(lambda: bool(missing()))
    assert "the control topic has no announcement of the key" in missing()[0]
    billing.broker.control = lambda _, value: lie(value) if value in hidden else value
    good = world.topic()
    assert shop.send(good) == 0
    assert billing.read(good) == [b"secret"]
    billing.wait_for_alarm("withheld")


def test_announcement_that_is_told_at_last(world: World):
    """A node that goes on reads the topic once more, and one that starts again does."""
    shop, billing, topic = world.run(world.shop), world.run(world.billing), world.topic()
    billing.broker.control = lambda _, value: HIDDEN if is_announcement(value) else value
    assert shop.send(topic) == 0
    assert billing.read(topic) == STORAGE_ERROR
    billing.broker.be_honest()
    wait_until(lambda: billing.read(topic) == [b"secret"])
    (why, *_) = billing.proxy.events("control_topic_read_again")
    assert why["reason"] == "a key is in use that wasn't announced there"
    billing.start_again()
    assert billing.read(topic) == [b"secret"]


def test_a_credential_that_is_told_at_last(world: World):
    """Its checkpoint lists it: who hid it once gains nothing for long."""
    shop, topic = world.run(world.shop), world.topic()
    times = {"not_before": world.members.now - 300, "expires": world.members.now + DAY}
    late = world.members.realm.node("late", consumes("*"), **times)
    shop.withhold(late.credential)
    world.members.publish(late.credential)
    world.members.checkpoint()
    shop.wait_for_alarm("withheld")
    shop.broker.be_honest()

    def has_it() -> bool:
        assert shop.send(topic) == 0
        return readers(shop)[-1] == 2

    wait_until(has_it)


def test_replay_stale_announcements(pair: tuple[World, Member, Member]):
    """Old ones at the topic's end, under any Kafka key: what is sealed and opened stays."""
    world, shop, billing = pair
    topic, seen = world.topic(), []
    billing.broker.control = lambda key, value: seen.append((key, value)) or value
    assert shop.send(topic) == 0
    assert billing.read(topic) == [b"secret"]
    (announced,) = [value for _, value in seen if is_announcement(value) and topic.encode() in value]
    world.write([(b"another key", announced)] * 3)
    before = billing.alarms()
    later = world.topic()
    assert shop.send(topic) == shop.send(later) == 0
    assert billing.read(topic) == [b"secret", b"secret"]
    assert billing.read(later) == [b"secret"]
    assert billing.alarms() == before


def test_announce_a_foreign_kid(world: World):
    """Another producer names the key of this one first, with wraps of its own: the right one opens."""
    mallory = world.members.join("mallory", produces("*"))
    shop, topic = world.run(world.shop), world.topic()
    assert shop.send(topic) == 0
    stored = world.stored(topic)
    kid = peek(memoryview(bytearray(stored)), read_header(stored)).kid
    times = {"created": world.members.now, "not_after": world.members.now + DAY}
    made = world.members.realm.announce(mallory, bytes(range(32)), world.billing, topic=topic, **times)
    forged = sign(RecordType.ANNOUNCEMENT, made.fields | {5: kid}, mallory.keys)
    world.members.publish(forged)
    billing = world.run(world.billing)
    assert billing.read(topic) == [b"secret"]

    def the_forged_one_alone(_: bytes | None, value: bytes | None) -> bytes | None:
        return HIDDEN if is_announcement(value) and value != value_of(forged) else value

    billing.broker.control = the_forged_one_alone
    billing.start_again()
    assert billing.read(topic) == CORRUPT_MESSAGE
    audited = [one["cloudevent"] for one in billing.proxy.events("audit")]
    (why,) = {one["data"]["reason"] for one in audited if one["type"] == "io.kveil.key.refused"}
    assert "its wrap for this node opens to nothing of use" in why


# The topic as a whole --------------------------------------------------------------------------------------------


def test_bury_all_under_tombstones(world: World):
    """Who has read it goes on; who starts says `rollback`, and seals nothing."""
    shop, billing, topic = world.run(world.shop), world.run(world.billing), world.topic()
    assert shop.send(topic) == 0
    assert billing.read(topic) == [b"secret"]
    known = [world.members.realm.identity, world.shop.credential, world.billing.credential]
    keys = [encode_record(record)[0] for record in (*known, *world.members.realm.checkpoints)]
    world.write([(key, None) for key in keys])
    assert shop.send(topic) == 0
    assert billing.read(topic) == [b"secret", b"secret"]
    shop.broker.control = lambda _key, _value: None
    shop.start_again()
    assert shop.send(topic) == NOT_ENOUGH_REPLICAS
    shop.wait_for_alarm("rollback")


def test_fill_it_with_garbage(world: World):
    """10,000 records that are nobody's: a node starts, seals and opens as ever."""
    foreign = Realm(name="foreign")
    unknown = Realm(name=world.members.realm.name).node("unknown", produces("*"))
    announced = Realm(name=world.members.realm.name)
    announced.checkpoint()
    samples = [
        value_of(foreign.checkpoint()),
        value_of(foreign.node("x", produces()).credential),
        value_of(announced.announce(unknown, bytes(32), world.billing)),
        b"\1\3" + os.urandom(300),
        b"\1\6" + b"\x81" * 5000,
        os.urandom(64),
        b"",
    ]
    world.write([(number.to_bytes(4, "big"), samples[number % len(samples)]) for number in range(10_000)])
    shop, billing, topic = world.run(world.shop), world.run(world.billing), world.topic()
    began = time.monotonic()
    assert shop.send(topic) == 0
    assert billing.read(topic) == [b"secret"]
    assert time.monotonic() - began < 10
    assert shop.alarms() == billing.alarms() == set()


def test_make_the_topic_anew(world: World):
    """Nodes that run keep what they verified and go on; who starts has seen more, and stops."""
    shop, billing, topic = world.run(world.shop), world.run(world.billing), world.topic()
    assert shop.send(topic) == 0
    assert billing.read(topic) == [b"secret"]
    world.kafka.delete_topic(CONTROL)
    world.kafka.create_topic(CONTROL, config={"cleanup.policy": "compact"})
    assert shop.send(topic) == 0
    assert billing.read(topic) == [b"secret", b"secret"]
    shop.start_again()
    assert shop.send(topic) == NOT_ENOUGH_REPLICAS
    shop.wait_for_alarm("rollback")
