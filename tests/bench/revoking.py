"""How long a revoked reader is still sealed to, by the broker's clock alone.

The broker stamps what it appends: the checkpoint that revokes a reader on the one topic, and each batch on the other.
The kid of a batch is in the clear, and who has its key is announced.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from confluent_kafka import Consumer, Message, TopicPartition

from kveil.protocol.envelope import registry
from kveil.protocol.envelope.header import HEADER
from kveil.protocol.identity import CONTROL_TOPIC
from kveil.protocol.identity.announcement import Announcement
from kveil.protocol.identity.checkpoint import Checkpoint
from kveil.protocol.identity.enrolment import Enrolment
from kveil.protocol.identity.record import decode_record
from tests.bench.cases import Case
from tests.bench.cluster import PARTITIONS, BenchCluster
from tests.bench.identities import ALL_TOPICS, BY_BROKER, new_realm, proxy_of
from tests.bench.results import Results
from tests.bench.rounds import topic_for
from tests.bench.ways import KVEIL
from tests.support.realm import Node, consumes, produces
from tests.support.steady import steady_producer

SECONDS = 60.0
BETWEEN = 60
"""Records from one revocation to the next."""
PAUSE_SECONDS = 0.001


class Batch(NamedTuple):
    """When the broker took it, in milliseconds, and under which key it is."""

    appended: int
    kid: bytes


class Control(NamedTuple):
    """What the control topic says: to whom each key went, and when each serial was no longer live."""

    recipients: Mapping[bytes, frozenset[bytes]]
    ended: Mapping[int, int]


def revocation_round(case: Case, bench: BenchCluster, results: Results) -> None:
    """Revoke one reader after the other, while records flow."""
    with new_realm(bench) as members, topic_for(case, KVEIL, bench, config=BY_BROKER) as topic:
        writer = members.join("writer", produces(ALL_TOPICS), checkpoint=False)
        members.join("stays", consumes(ALL_TOPICS), checkpoint=False)
        leaving = [members.join(f"leaves-{n}", consumes(ALL_TOPICS), checkpoint=False) for n in range(case.count)]
        members.checkpoint()
        with (
            proxy_of(bench, members, writer) as proxy,
            steady_producer(proxy.bootstrap, topic, partitions=PARTITIONS, pause_seconds=PAUSE_SECONDS) as producer,
        ):
            producer.wait_for_more(BETWEEN)
            for node in leaving:
                members.revoke(node)
                producer.wait_for_more(BETWEEN)
            producer.finish()
        control = read_control(messages(bench.direct, CONTROL_TOPIC), members.realm.name)
        batches = list(read_batches(messages(bench.direct, topic)))
    found = [still_sealed(node, control, batches) for node in leaving]
    seconds, counts = sorted(late / 1000 for late, _ in found), sorted(count for _, count in found)
    for name, percent in (("p50", 50), ("p99", 99)):
        place = min(len(found) * percent // 100, len(found) - 1)
        results.add(case.name, f"revoked to last batch, {name}", "s", KVEIL, seconds[place])
        results.add(case.name, f"after it was revoked, {name}", "batches", KVEIL, counts[place])


def still_sealed(node: Node, control: Control, batches: Sequence[Batch]) -> tuple[int, int]:
    """How many milliseconds after its checkpoint the last batch came that a node can open, and how many did.

    Raises RuntimeError if none came before it, or all after it can be opened: then nothing was measured.
    """
    ended = control.ended[node.body.serial]
    after = [batch for batch in batches if batch.appended >= ended]
    late = [batch.appended - ended for batch in after if node.keys.id in control.recipients[batch.kid]]
    before = (batch for batch in batches if batch.appended < ended)
    if len(late) == len(after) or not any(node.keys.id in control.recipients[batch.kid] for batch in before):
        raise RuntimeError(f"{node.body.name} was no reader before, or still is one")
    return max(late, default=0), len(late)


def read_control(records: Iterable[Message], realm: str) -> Control:
    """What is announced, and who was in the last checkpoint and isn't in the next."""
    recipients: dict[bytes, frozenset[bytes]] = {}
    ended: dict[int, int] = {}
    live: set[int] = set()
    for message in records:
        record = decode_record(message.value() or b"", realm)
        if isinstance(record, Enrolment):
            continue
        if isinstance(record.body, Announcement):
            recipients[record.body.kid] = frozenset(record.body.recipients)
        elif isinstance(record.body, Checkpoint):
            _, appended = message.timestamp()
            ended |= dict.fromkeys(live - record.body.live.keys(), appended)
            live = set(record.body.live)
    return Control(recipients, ended)


def read_batches(records: Iterable[Message]) -> Iterator[Batch]:
    """What starts with an envelope; stubs don't."""
    for message in records:
        value = message.value()
        if value is not None and value.startswith(registry.MAGIC):
            yield Batch(message.timestamp()[1], HEADER.unpack_from(value)[5])


def messages(bootstrap: str, topic: str) -> list[Message]:
    """All that stands on a topic now, partition by partition. Raises RuntimeError if it doesn't come."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "bench", "enable.auto.commit": False})
    found: list[Message] = []
    try:
        partitions = consumer.list_topics(topic, SECONDS).topics[topic].partitions
        ends = {each: consumer.get_watermark_offsets(TopicPartition(topic, each), SECONDS)[1] for each in partitions}
        left = sum(ends.values())
        consumer.assign([TopicPartition(topic, each, 0) for each in ends])
        deadline = time.monotonic() + SECONDS
        while len(found) < left and time.monotonic() < deadline:
            found += consumer.consume(1000, 0.1)
    finally:
        consumer.close()
    if len(found) < left or any(message.error() for message in found):
        raise RuntimeError(f"{len(found)} of {left} records of {topic} came")
    return found
