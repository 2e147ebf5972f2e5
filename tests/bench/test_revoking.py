"""What is made of the broker's times when readers are revoked."""

from dataclasses import dataclass

import pytest

from kveil.protocol.envelope import registry
from kveil.protocol.envelope.header import HEADER
from tests.bench.revoking import Batch, Control, read_batches, read_control, still_sealed
from tests.support.realm import Realm, consumes, produces, value_of

OLD, NEW = b"o" * 16, b"n" * 16
REVOKED_AT = 1_000


@dataclass
class Played:
    """A record as a consumer gives it."""

    appended: int
    content: bytes | None

    def value(self):
        return self.content

    def timestamp(self):
        return 2, self.appended


@pytest.fixture
def realm():
    return Realm()


@pytest.fixture
def node(realm):
    return realm.node("leaves", consumes())


@pytest.fixture
def control(node):
    recipients = {OLD: frozenset({node.keys.id, b"stays"}), NEW: frozenset({b"stays"})}
    return Control(recipients, {node.body.serial: REVOKED_AT})


def test_the_last_batch_that_the_revoked_can_open_counts(node, control):
    batches = [Batch(990, OLD), Batch(1_000, OLD), Batch(1_007, NEW), Batch(1_012, OLD), Batch(1_020, NEW)]
    assert still_sealed(node, control, batches) == (12, 2)


def test_nothing_late_is_no_time(node, control):
    assert still_sealed(node, control, [Batch(990, OLD), Batch(1_001, NEW)]) == (0, 0)


@pytest.mark.parametrize("kids", [(NEW, NEW), (OLD, OLD), (OLD,)])
def test_what_shows_nothing_is_no_measurement(node, control, kids):
    batches = [Batch(time, kid) for time, kid in zip((990, 1_001), kids, strict=False)]
    with pytest.raises(RuntimeError, match="no reader before, or still is one"):
        still_sealed(node, control, batches)


def test_the_control_topic_says_who_was_revoked_when(realm, node):
    stays, writer = realm.node("stays", consumes()), realm.node("writer", produces())
    first = realm.checkpoint()
    before = realm.announce(writer, bytes(32), node, stays)
    second = realm.end(node)
    after = realm.announce(writer, bytes(range(32)), stays)
    records = [Played(100 * place, value_of(record)) for place, record in enumerate([first, before, second, after])]
    found = read_control(records, realm.name)
    assert found.ended == {node.body.serial: 200}
    assert list(found.recipients.values()) == [{node.keys.id, stays.keys.id}, {stays.keys.id}]


def test_stubs_are_no_batches():
    header = HEADER.pack(registry.MAGIC, registry.VERSION, registry.BATCH, 1, 0, OLD, bytes(24), 3, 10)
    records = [Played(5, header + b"more"), Played(5, None), Played(5, b""), Played(6, header)]
    assert list(read_batches(records)) == [Batch(5, OLD), Batch(6, OLD)]
