"""A hostile broker between the proxy and a real one: what it makes of batches and answers, and what comes of it.

Nothing that wasn't produced is ever delivered, in no attack. Where an attack shows, the client gets an error, and a log
line and an audit event say why; as soon as the broker is honest again, all is delivered as it was produced. Attacks on
the control topic are in `test_hostile_control.py`.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from kveil.protocol.kafka.api_table import ApiKey
from kveil.protocol.kafka.messages import encode_request, encode_response
from kveil.protocol.kafka.record_batch import empty_batch
from kveil.protocol.kafka.splice import Edit, FrozenShape, Want, request_walker, splice
from kveil.proxy.config import Mode
from kveil.proxy.net.own_topic import plain_batch
from tests.support import attacks
from tests.support.attacks import Attack, Stored
from tests.support.hostile_broker import Asked, HostileBroker, Told, hostile_broker
from tests.support.kafka import Cluster, kafka_cluster
from tests.support.members import Members, control_writer
from tests.support.proxy import Proxy, kveil, kveil_proxy
from tests.support.raw_client import METADATA_VERSION, ConnectionClosedError, Fetched, RawClient
from tests.support.realm import consumes, produces
from tests.support.records import at_offset, mode_of
from tests.support.scripted_broker import Request, describe_configs, everything_offered
from tests.support.waiting import wait_until

CORRUPT_MESSAGE = 2
STORAGE_ERROR = 56
# Each refused key is to be looked at: without this, those of one partition would share the first one's answer.
EVERY_KEY_AGAIN = {"limits": {"refused_key_seconds": 0.001}}
VALUES = [b"one", b"two", b"three"]
BATCHES, RECORDS, OTHER = "batches", "records", "other"
"""Topics: one in batch mode, one that is compacted and so in record mode, one to take batches from."""


@dataclass
class Scene:
    """A proxy behind the hostile broker, one connection through it, and its topics."""

    broker: HostileBroker
    proxy: Proxy
    client: RawClient
    direct: RawClient
    provider: str
    foreign: list[bytes] = field(default_factory=list)

    def name(self, topic: str) -> str:
        return f"{self.provider}-{topic}"

    def store(self, topic: str, partition: int = 0, values: Sequence[bytes] = VALUES) -> tuple[int, bytes]:
        """Produce a batch through the proxy. Returns where it is, and what it is there."""
        keyed = [(b"key %d" % number, value) for number, value in enumerate(values)]
        name, sent = self.name(topic), plain_batch(keyed, int(time.time() * 1000))
        error, offset = self.client.produce({name: {partition: sent}})[name, partition]
        assert error == 0, [one["reason"] for one in self.proxy.events("produce_refused")]
        (stored,) = self.direct.fetch(name, partition, offset).batches
        return offset, stored

    def fetch_attacked(self, topic: str, attack: Attack, offset: int, stored: bytes) -> Fetched:
        """Fetch what the broker makes of the batch."""
        return self.fetch_instead(topic, offset, attack(Stored(stored, *self.foreign)))

    def fetch_instead(self, topic: str, offset: int, records: bytes) -> Fetched:
        """Fetch, and have the broker tell something else."""

        def lie(told: Told) -> Told:
            return told._replace(records=records) if (told.partition, told.asked) == (0, offset) else told

        self.broker.records[self.name(topic)] = lie
        return self.client.fetch(self.name(topic), 0, offset)

    def reasons(self, event: str, topic: str, offset: int | None) -> list[str]:
        """Why a batch was refused, by the log or the audit."""
        place = self.name(topic)
        if event == "log":
            lines = self.proxy.events("batch_unopened")
            return [one["reason"] for one in lines if one["topic"] == place and one["first_offset"] == offset]
        found = [one["cloudevent"] for one in self.proxy.events("audit")]
        told = [one for one in found if (one["type"], one["subject"]) == ("io.kveil.batch.refused", f"{place}/0")]
        return [one["data"]["reason"] for one in told if one["data"]["first_offset"] == offset]


@pytest.fixture(scope="module")
def kafka() -> Iterator[Cluster]:
    """A cluster for these tests alone: its control topic is theirs."""
    with kafka_cluster() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def scenes(kafka: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Scene]]:
    """One for each kind of keys: a key file, and identities."""
    with ExitStack() as stack:
        broker = stack.enter_context(hostile_broker(kafka.bootstrap))
        direct = stack.enter_context(RawClient(kafka.bootstrap))
        found = {}
        folder = tmp_path_factory.mktemp("realm")
        made = kveil("keys", "init", "--keys", str(keys := folder / "keys.json"), "--realm", "demo")
        assert made.returncode == 0, made.stderr
        for provider, config in (("keyfile", {}), ("identities", identity(kafka, folder, keys))):
            proxy = stack.enter_context(kveil_proxy(broker.address, keys=keys, config={**config, **EVERY_KEY_AGAIN}))
            client = stack.enter_context(RawClient(proxy.bootstrap))
            client.metadata()
            found[provider] = scene = Scene(broker, proxy, client, direct, provider)
            for topic, policy in ((BATCHES, "delete"), (RECORDS, "compact"), (OTHER, "delete")):
                kafka.create_topic(scene.name(topic), partitions=2, config={"cleanup.policy": policy})
            scene.foreign = [scene.store(OTHER)[1], scene.store(BATCHES, partition=1)[1]]
        yield found


def identity(kafka: Cluster, folder: Path, keys: Path) -> dict[str, Any]:
    """The settings of a realm's only member, who seals and opens. The key file has what hides records' keys."""
    kafka.create_topic("_kveil.control", config={"cleanup.policy": "compact"})
    with control_writer(kafka.bootstrap) as write:
        members = Members(folder, write, now=int(time.time()))
        node = members.join("app", produces("*"), consumes("*"))
    return {"keys": {"provider": "identities", "path": str(keys)}, "identity": {"path": str(members.path(node))}}


@pytest.fixture(params=["keyfile", "identities"])
def scene(request: pytest.FixtureRequest, scenes: dict[str, Scene]) -> Iterator[Scene]:
    found = scenes[request.param]
    yield found
    found.broker.be_honest()


# Attack, topic, and why it is refused, by the log and the audit. Where a key file's reason differs from identities',
# both, in this order.
Reason = str | tuple[str, str]
REFUSED: list[tuple[Attack, str, Reason]] = [
    (attacks.edit_the_ciphertext, BATCHES, "tag"),
    (attacks.edit_the_ciphertext, RECORDS, "tag"),
    (attacks.edit_the_tag, BATCHES, "tag"),
    (attacks.edit_the_last_byte, BATCHES, ("tag", "signature")),
    (attacks.edit_the_salt, BATCHES, "commitment"),
    (attacks.edit_the_commitment, BATCHES, "commitment"),
    (attacks.truncate_the_envelope, BATCHES, "length"),
    (attacks.truncate_the_envelope, RECORDS, "length"),
    (attacks.strip_the_extensions, BATCHES, "no key block"),
    (attacks.add_a_critical_extension, BATCHES, "unknown critical extension"),
    (attacks.downgrade_the_version, BATCHES, "version"),
    (attacks.downgrade_the_suite, BATCHES, "suite"),
    (attacks.downgrade_the_suite, RECORDS, "suite"),
    (attacks.downgrade_the_mode, BATCHES, "mode"),
    (attacks.downgrade_to_an_old_format, BATCHES, "a batch of magic 1, which can't be sealed"),
    (attacks.pass_it_as_record_mode, BATCHES, "length"),
    (
        attacks.swap_topics,
        BATCHES,
        ("the wrap does not open under key", "announced keys of 'identities-other' are not among those"),
    ),
    (attacks.swap_partitions, BATCHES, "commitment"),
    (attacks.swap_producer_ids, BATCHES, "producer fields differ from the batch"),
    (attacks.swap_keys, RECORDS, "tag"),
    (attacks.swap_values, RECORDS, "tag"),
    (attacks.drop_a_stub, BATCHES, "count differs from the batch"),
    (attacks.add_a_stub, BATCHES, "count differs from the batch"),
    (attacks.put_the_envelope_second, BATCHES, "record 0 has no value"),
    (attacks.invent_plain_records, BATCHES, "no envelope"),
    (attacks.invent_plain_records, RECORDS, "no envelope"),
    (attacks.invent_a_tombstone, BATCHES, "record 0 has no value"),
    (attacks.invent_a_tombstone, RECORDS, "record 0 has no value"),
    (attacks.make_a_tombstone_of_a_value, RECORDS, "record 0 has no value"),
    (attacks.pass_a_value_as_a_sealed_tombstone, RECORDS, "tag"),
    (attacks.mix_a_plain_record_in, RECORDS, "some records are not sealed"),
    (attacks.call_it_a_control_batch, BATCHES, "control batch is not one plain record"),
    (attacks.hide_records_in_a_marker, BATCHES, "control record"),
    (attacks.hide_records_in_an_empty_batch, BATCHES, "record bytes in a batch of count 0"),
    (attacks.call_it_transactional, BATCHES, "producer fields differ from the batch"),
    (attacks.send_a_bomb, RECORDS, "batch does not decompress"),
]


@pytest.mark.parametrize(
    ("attack", "topic", "reason"), REFUSED, ids=[f"{attack.__name__}-{topic}" for attack, topic, _ in REFUSED]
)
def test_refused(scene: Scene, attack: Attack, topic: str, reason: Reason):
    """CORRUPT_MESSAGE and not a byte; the log and the audit have the reason; what is honest opens at once."""
    if isinstance(reason, tuple):
        reason = reason[scene.provider == "identities"]
    offset, stored = scene.store(topic)
    fetched = scene.fetch_attacked(topic, attack, offset, stored)
    assert (fetched.error, fetched.records) == (CORRUPT_MESSAGE, b"")
    told = None if attack is attacks.downgrade_to_an_old_format else offset  # it has no offset to tell
    for where in ("log", "audit"):
        wait_until(lambda where=where: bool(scene.reasons(where, topic, told)))
        (why,) = scene.reasons(where, topic, told)
        assert reason in why
    scene.broker.be_honest()
    opened = scene.client.fetch(scene.name(topic), 0, offset)
    assert [value for _, value in opened.values] == VALUES


def test_edit_the_key_id(scene: Scene):
    """It is the broker's to find that no key has the id: for ever with a key file; announced ones may come yet."""
    offset, stored = scene.store(BATCHES)
    fetched = scene.fetch_attacked(BATCHES, attacks.edit_the_key_id, offset, stored)
    assert fetched.records == b""
    if scene.provider == "keyfile":
        assert fetched.error == CORRUPT_MESSAGE
        wait_until(lambda: bool(scene.reasons("audit", BATCHES, offset)))
    else:
        assert fetched.error == STORAGE_ERROR
        missing = scene.proxy.wait_for_event("epoch_key_missing")
        assert "the control topic has no announcement of the key" in missing["reason"]


# What makes no difference to what is delivered, or delivers nothing without an error, as honest brokers do too.
HARMLESS: list[tuple[Attack, list[bytes]]] = [
    (attacks.write_into_a_stub, VALUES),
    (attacks.cut_the_batch_short, []),
]


@pytest.mark.parametrize(("attack", "delivered"), HARMLESS, ids=[attack.__name__ for attack, _ in HARMLESS])
def test_harmless(scene: Scene, attack: Attack, delivered: list[bytes]):
    offset, stored = scene.store(BATCHES)
    fetched = scene.fetch_attacked(BATCHES, attack, offset, stored)
    assert fetched.error == 0
    assert [value for _, value in fetched.values] == delivered


# Answers about topics and brokers --------------------------------------------------------------------------------


def test_swap_topic_ids(scene: Scene):
    """A topic's id never becomes another's: whoever is told so is cut off, and the audit says of which."""
    names = [scene.name(BATCHES), scene.name(OTHER)]
    scene.client.metadata(*names)
    ids = [topic.topic_id.bytes for topic in scene.direct.metadata(*names).topics]

    def swap(_: Asked, answer: bytes) -> bytes:
        return answer.replace(ids[0], b"?" * 16).replace(ids[1], ids[0]).replace(b"?" * 16, ids[1])

    scene.broker.answers[ApiKey.METADATA] = swap
    with RawClient(scene.proxy.bootstrap) as client, pytest.raises(ConnectionClosedError):
        client.metadata(*names)
    renamed = "io.kveil.topic.renamed"
    wait_until(lambda: renamed in [one["cloudevent"]["type"] for one in scene.proxy.events("audit")])


def test_lead_clients_around_the_proxy(scene: Scene):
    """Whatever addresses the broker gives, clients are told of the proxy's."""

    def elsewhere(asked: Asked, _: bytes) -> bytes:
        brokers = [{"node_id": 1, "host": "evil.example", "port": 9092}]
        values = {"brokers": brokers, "cluster_id": "x", "controller_id": 1, "topics": []}
        return encode_response(ApiKey.METADATA, METADATA_VERSION, asked.header.correlation_id, values)

    scene.broker.answers[ApiKey.METADATA] = elsewhere
    (told,) = scene.client.metadata().brokers
    assert told.host == "127.0.0.1"
    assert scene.proxy.port < told.port <= scene.proxy.port + 4
    scene.broker.be_honest()
    scene.client.metadata()


def test_downgrade_to_versions_that_cannot_be_sealed(scene: Scene, kafka: Cluster):
    """A broker that offers old versions of Produce and Fetch alone gets nothing, and gives nothing."""

    def old_ones(asked: Asked, _: bytes) -> bytes:
        values = everything_offered(Produce=(0, 2), Fetch=(0, 3))
        return encode_response(ApiKey.API_VERSIONS, asked.header.api_version, asked.header.correlation_id, values)

    scene.broker.answers[ApiKey.API_VERSIONS] = old_ones
    with RawClient(scene.proxy.bootstrap) as client:
        offered = {one.api_key: (one.min_version, one.max_version) for one in client.ask(18, 3, {}).api_keys}
        assert ApiKey.FETCH not in offered
        client.socket.sendall(_produce_2(scene.name(BATCHES), plain_batch([(b"", b"downgraded")], 0)))
        assert client.is_closed_by_peer()
    assert not kafka.contains(b"downgraded")


def _produce_2(topic: str, records: bytes) -> bytes:
    """A request of version 2, which kio doesn't have any more: as version 3, without a transactional id."""
    data = [{"name": topic, "partition_data": [{"index": 0, "records": records}]}]
    values = {"transactional_id": None, "acks": -1, "timeout": 10_000, "topic_data": data}
    frame = encode_request(ApiKey.PRODUCE, 3, 1, None, values)
    body = frame[:2] + b"\0\2" + frame[4:10] + frame[12:]
    return len(body).to_bytes(4, "big") + body


def test_lie_about_a_topics_settings(scene: Scene, kafka: Cluster, topic: str):
    """Called compacted, a topic is sealed by record: no value leaves in the clear, and none is lost."""

    def compacted(asked: Asked, _: bytes) -> bytes:
        header = asked.header
        values = describe_configs(Request(header, asked.frame, None), **{"cleanup.policy": "compact"})
        return encode_response(header.api_key, header.api_version, header.correlation_id, values)

    scene.broker.answers[ApiKey.DESCRIBE_CONFIGS] = compacted
    kafka.create_topic(scene.name(topic))
    offset, stored = scene.store(topic, values=[b"secret of a topic"])
    assert mode_of(stored) is Mode.RECORD
    assert not kafka.contains(b"secret of a topic")
    assert scene.client.fetch(scene.name(topic), 0, offset).values == [(offset, b"secret of a topic")]


_PRODUCED = FrozenShape({"topic_data": {"name": Want.VALUE, "partition_data": {"records": Want.DATA}}})


def test_edit_what_is_produced(scene: Scene, kafka: Cluster, topic: str):
    """Changed before it is stored, it is lost, and says so for ever."""

    def edit(asked: Asked) -> bytes:
        walker = request_walker(ApiKey.PRODUCE, asked.header.api_version, _PRODUCED)
        ((name, ((((_, at, end)),),)),) = walker(asked.frame).values[0]
        if name != scene.name(topic):  # an announcement of the key
            return asked.frame
        sealed = asked.frame[at:end]
        made = attacks.edit_the_ciphertext(Stored(sealed, b"", b""))
        return b"".join(splice(asked.frame, [Edit(at, end, [made])]))

    scene.broker.requests[ApiKey.PRODUCE] = edit
    kafka.create_topic(scene.name(topic))
    offset, _ = scene.store(topic)
    scene.broker.be_honest()
    fetched = scene.client.fetch(scene.name(topic), 0, offset)
    assert (fetched.error, fetched.records) == (CORRUPT_MESSAGE, b"")
    wait_until(lambda: bool(scene.reasons("audit", topic, offset)))
    assert scene.reasons("audit", topic, offset) == ["tag"]


# Positions in the stream -----------------------------------------------------------------------------------------
#
# Each envelope is bound to its topic and partition, and by itself not to its offset. So these are not seen, unless
# batches carry stream positions (FORMAT.md, section 14), as those of identities do.

Log = Sequence[tuple[int, bytes]]


def replay_at_a_second_offset(log: Log) -> bytes:
    return at_offset(log[0][1], log[0][0]) + at_offset(log[0][1], log[1][0])


def reorder(log: Log) -> bytes:
    return at_offset(log[1][1], log[0][0]) + at_offset(log[0][1], log[1][0])


def drop_in_the_middle(log: Log) -> bytes:
    return log[0][1] + empty_batch(log[1][0], log[1][0]) + log[2][1]


def withhold_the_end(log: Log) -> bytes:
    return log[0][1]


STREAM: list[tuple[Callable[[Log], bytes], list[bytes], list[bytes]]] = [
    (replay_at_a_second_offset, [b"first", b"first"], [b"first"]),
    (reorder, [b"second", b"first"], [b"second"]),
    (drop_in_the_middle, [b"first", b"third"], [b"first", b"third"]),
    (withhold_the_end, [b"first"], [b"first"]),
]
"""What is delivered with a key file, which knows no positions, and with identities. A hole and a withheld end are
alarms where the batches were vouched for, which those of this producer, of acks 1, aren't."""


@pytest.mark.parametrize(("attack", "unseen", "seen"), STREAM, ids=[attack.__name__ for attack, _, _ in STREAM])
def test_position(scene: Scene, attack: Callable[[Log], bytes], unseen: list[bytes], seen: list[bytes]):
    log = [scene.store(BATCHES, values=[value]) for value in (b"first", b"second", b"third")]
    fetched = scene.fetch_instead(BATCHES, log[0][0], attack(log))
    assert fetched.error == 0
    assert [value for _, value in fetched.values] == (seen if scene.provider == "identities" else unseen)
