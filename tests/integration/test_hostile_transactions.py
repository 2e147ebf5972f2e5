"""A hostile broker that lies about how transactions ended, and honest ones, whatever becomes of transactions there.

The producers' proxy stands before the real broker, the readers' behind the hostile one. A proxy says how transactions
ended once a minute, and when it ends: these tests don't wait for a minute.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from confluent_kafka import KafkaException, Producer

from kveil.protocol.identity import CONTROL_TOPIC
from kveil.protocol.identity.beacon import Beacon
from kveil.protocol.identity.progress import TransactionEnd
from kveil.protocol.identity.record import decode_record
from kveil.proxy.net.own_topic import records_of
from tests.support import attacks, java
from tests.support.attacks import Transacted
from tests.support.clients import librdkafka, librdkafka_read
from tests.support.hostile_broker import HostileBroker, Told, hostile_broker
from tests.support.kafka import Cluster, kafka_cluster
from tests.support.members import Members, control_writer
from tests.support.proxy import Proxy, kveil_proxy
from tests.support.raw_client import Fetched, RawClient
from tests.support.realm import Node, consumes, produces
from tests.support.waiting import wait_until

SECONDS = 60.0
CORRUPT_MESSAGE = 2
COMMITTED_ONLY = 1
REASON = "another end of a transaction than its producer's, or than was shown before"


@dataclass
class Scene:
    """A producers' proxy, a readers' proxy, and the broker that lies to the latter."""

    kafka: Cluster
    members: Members
    broker: HostileBroker
    shop: Proxy
    billing: Proxy
    client: RawClient

    def read(self, topic: str, offset: int) -> Fetched:
        return self.client.fetch(topic, 0, offset, isolation_level=COMMITTED_ONLY)

    def alarms(self) -> list[dict[str, object]]:
        return [event for proxy in (self.shop, self.billing) for event in proxy.events("stream_alarm")]

    def told(self) -> list[TransactionEnd]:
        """What the producers' proxy has said last of ends of transactions."""
        with RawClient(self.kafka.bootstrap) as direct:
            fetched = direct.fetch(CONTROL_TOPIC, 0, 0)
        values = [value for _, _, value in records_of(fetched.records) if value is not None]
        bodies = [decode_record(value, self.members.realm.name).body for value in values]
        return list([body for body in bodies if isinstance(body, Beacon)][-1].ended)


@pytest.fixture(scope="module")
def kafka() -> Iterator[Cluster]:
    """A cluster for these tests alone: its control topic is theirs."""
    with kafka_cluster() as cluster:
        yield cluster


@pytest.fixture
def scene(kafka: Cluster, tmp_path: Path) -> Iterator[Scene]:
    kafka.create_topic(CONTROL_TOPIC, config={"cleanup.policy": "compact"})
    with ExitStack() as stack:
        stack.callback(kafka.delete_topic, CONTROL_TOPIC)
        write = stack.enter_context(control_writer(kafka.bootstrap))
        members = Members(tmp_path, write, now=int(time.time()))
        reader, writer = members.join("billing", consumes("*")), members.join("shop", produces("*"))
        broker = stack.enter_context(hostile_broker(kafka.bootstrap))

        def proxy(address: str, node: Node) -> Proxy:
            config = {"keys": {"provider": "identities"}, "identity": {"path": str(members.path(node))}}
            return stack.enter_context(kveil_proxy(address, keys=tmp_path / "none.json", config=config))

        shop, billing = proxy(kafka.bootstrap, writer), proxy(broker.address, reader)
        client = stack.enter_context(RawClient(billing.bootstrap))
        client.metadata()
        yield Scene(kafka, members, broker, shop, billing, client)


@contextmanager
def transactional(bootstrap: str, transactional_id: str, **more: object) -> Iterator[Producer]:
    producer = Producer(librdkafka(bootstrap, transactional_id=transactional_id, **more))
    producer.init_transactions(SECONDS)
    yield producer
    with suppress(KafkaException):  # where it was fenced
        producer.close()


def send(producer: Producer, topic: str, *values: bytes) -> None:
    """Some records of an open transaction, acknowledged."""
    for value in values:
        producer.produce(topic, value, partition=0)
    assert producer.flush(SECONDS) == 0


def commit_and_abort(bootstrap: str, topic: str) -> tuple[int, int]:
    """Two transactions of two batches. Returns the first offset of each."""
    with transactional(bootstrap, topic) as producer:
        for value, end in ((b"committed", producer.commit_transaction), (b"aborted", producer.abort_transaction)):
            producer.begin_transaction()
            send(producer, topic, value)
            send(producer, topic, value)
            end(SECONDS)
    with transactional(bootstrap, topic):  # the coordinator lets it begin when the last markers are written
        return 0, 3


Lie = Callable[[Transacted], Transacted]
LIES: list[tuple[Lie, bool, bool]] = [
    (attacks.list_a_committed_transaction_as_aborted, True, True),
    (attacks.leave_an_aborted_transaction_out, False, True),
    (attacks.pass_a_commit_as_an_abort, True, False),
    (attacks.pass_an_abort_as_a_commit, False, False),
]
"""What the broker does, whether to a transaction that was committed, and whether list and markers contradict each other
then."""


@pytest.mark.parametrize(("lie", "committed", "contradicts"), LIES, ids=[lie.__name__ for lie, _, _ in LIES])
def test_lies_about_transactions(scene: Scene, topic: str, lie: Lie, committed: bool, contradicts: bool):
    """Refused where it shows, else an alarm as soon as the producer's proxy has said how it ended."""
    scene.kafka.create_topic(topic)
    first = commit_and_abort(scene.shop.bootstrap, topic)[not committed]

    def tell(told: Told) -> Told:
        lied = lie(Transacted(told.records, told.aborted, first))
        return told._replace(records=lied.records, aborted=lied.aborted)

    scene.broker.records[topic] = tell
    fetched = scene.read(topic, first)
    if not contradicts:
        assert (fetched.error, len(fetched.batches)) == (0, 3 if not committed else 6)
        assert scene.alarms() == []
        scene.shop.stop()
        scene.billing.wait_for_event("stream_alarm")
        fetched = scene.read(topic, first)
    assert (fetched.error, fetched.records) == (CORRUPT_MESSAGE, b"")
    wait_until(lambda: bool(scene.billing.events("batch_unopened")))
    (refused,) = scene.billing.events("batch_unopened")
    assert (refused["topic"], refused["first_offset"], refused["reason"]) == (topic, first, REASON)
    for alarm in scene.alarms():
        assert (alarm["kind"], alarm["producer"], alarm["topic"]) == ("outcome", "shop", topic)
    scene.broker.be_honest()
    told = len(scene.alarms())
    values = librdkafka_read(scene.billing.bootstrap, topic, isolation_level="read_committed")
    assert [record.value for record in values] == [b"committed", b"committed"]
    assert len(scene.read(topic, 0).batches) == 6
    assert len(scene.alarms()) == told


def fence(bootstrap: str, topic: str) -> None:
    """Another client takes the id over in the middle of a transaction."""
    with transactional(bootstrap, topic) as first:
        first.begin_transaction()
        send(first, topic, b"lost")
        with transactional(bootstrap, topic) as second:
            second.begin_transaction()
            send(second, topic, b"kept")
            second.commit_transaction(SECONDS)
        with pytest.raises(KafkaException):
            first.commit_transaction(SECONDS)


def take_too_long(bootstrap: str, topic: str) -> None:
    """The coordinator aborts it."""
    with transactional(bootstrap, f"{topic}-slow", transaction_timeout_ms=1_000) as producer:
        producer.begin_transaction()
        send(producer, topic, b"lost")
        wait_until(lambda: is_decided(bootstrap, topic))
        with pytest.raises(KafkaException):
            producer.commit_transaction(SECONDS)


def is_decided(bootstrap: str, topic: str) -> bool:
    """Whether no transaction is open."""
    with RawClient(bootstrap) as client:
        stable, end = (client.list_offsets(topic, {0: -1}, isolation_level=level)[0][1] for level in (1, 0))
    return stable == end


def lose_the_proxy(shop: Proxy, topic: str) -> None:
    """It is killed in the middle, and the end goes through another process."""
    for end in ("commit", "abort"):
        with transactional(shop.bootstrap, f"{topic}-{end}") as producer:
            producer.begin_transaction()
            send(producer, topic, b"before")
            shop.kill()
            shop.start()
            send(producer, topic, b"behind")
            (producer.commit_transaction if end == "commit" else producer.abort_transaction)(SECONDS)


def run_java(bootstrap: str, topic: str) -> None:
    """Many short ones of a client that has each under an epoch of its own (KIP-890)."""
    load = ("--num-records", "1000", "--payload-monotonic", "--throughput", "1000", "--transaction-duration-ms", "50")
    java.java_tool(java.PRODUCER_PERFORMANCE, "--bootstrap-server", bootstrap, "--topic", topic, *load)


def test_no_alarm_however_transactions_end(scene: Scene, topic: str):
    """Commits and aborts of old clients and new ones, fencing, transactions that take too long, killed proxies."""
    scene.kafka.create_topic(topic)
    shop = scene.shop

    def read() -> list[bytes | None]:
        found = librdkafka_read(scene.billing.bootstrap, topic, isolation_level="read_committed")
        return [record.value for record in found]

    lose_the_proxy(shop, topic)
    for run in (commit_and_abort, fence, take_too_long, run_java, commit_and_abort):
        run(shop.bootstrap, topic)
        read()
    wait_until(lambda: is_decided(scene.kafka.bootstrap, topic))
    values = read()
    assert shop.stop() == 0
    told = scene.told()
    assert {end.committed for end in told} == {True, False}
    assert any(end.last - end.first >= 9 for end in told if end.committed), "those of the new client, in one"
    time.sleep(1)  # for the beacon
    assert read() == values
    assert {b"committed", b"kept", b"999"} < set(values)
    assert not {b"aborted", b"lost"} & set(values)
    assert scene.alarms() == []
