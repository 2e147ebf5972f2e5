"""Batches that their producer signs: a consumer that holds the key can't write as the producer."""

from typing import Any

import pytest

from kveil.protocol.envelope.batch import seal
from kveil.protocol.envelope.crypto import SigningKey
from kveil.protocol.envelope.key_schedule import EpochKey
from kveil.protocol.envelope.position import Position, Slot
from kveil.protocol.envelope.record import seal_records
from kveil.protocol.envelope.sealed_batch import peek
from kveil.protocol.kafka.record_batch import check_produced, read_header
from kveil.proxy.config import Mode
from kveil.proxy.errors import ErrorCode
from tests.support.realm import consumes, produces
from tests.support.records import at_offset, client_batch, mode_of
from tests.support.told import Member

BATCH = client_batch(3)


@pytest.fixture
def members(world, tmp_path):
    """Begin a producer and a consumer: `members(mode="record")`. The realm's checkpoint says what is demanded."""

    def begin(checkpoint: dict[str, Any] | None = None, **rule: Any) -> tuple[Member, Member]:
        reader = world.members.join("billing", consumes())
        writer = world.members.join("shop", produces())
        world.members.checkpoint(**(checkpoint or {}))
        return Member(tmp_path, world, writer, **rule), Member(tmp_path, world, reader, **rule)

    return begin


def key_of(member: Member) -> EpochKey:
    """The epoch key that a consumer holds after it has read."""
    (opened,) = member.process.keys._opened.values()
    return opened.key


def forged(key: EpochKey, mode: str, slot: Slot | None, **changes: Any) -> bytes:
    """A batch of a consumer that makes what it can of the key that it holds."""
    own = EpochKey(
        secret=key.secret,
        realm=key.realm,
        topic=key.topic,
        kid=key.kid,
        block=key.block,
        producer_id=key.producer_id,
        **changes,
    )
    view = memoryview(bytearray(BATCH))
    header = check_produced(view)
    if mode == "batch":
        pieces = seal(view, header, key=own, partition=0, slot=slot)
    else:
        pieces = seal_records(view, header, key=own, hiding=None, partition=0, slot=slot)
    return at_offset(b"".join(map(bytes, pieces)), 7)


@pytest.mark.parametrize("mode", ["batch", "record"])
def test_a_signed_batch_opens(members, mode):
    shop, billing = members(mode=mode, keys="clear")
    _, stored = shop.seal(BATCH)
    assert mode_of(stored) is Mode(mode)
    assert billing.read(at_offset(stored, 7)) == (0, at_offset(BATCH, 7))
    assert key_of(billing).demands_signature
    assert key_of(billing).signing_key is None


@pytest.mark.parametrize("mode", ["batch", "record"])
@pytest.mark.parametrize("signed", [False, True])
def test_a_consumer_cannot_forge(members, mode, signed, audited):
    """It has the epoch key, and so could seal; the announcement says whose signature each batch must have."""
    shop, billing = members(mode=mode, keys="clear")
    _, stored = shop.seal(BATCH)
    assert billing.read(at_offset(stored, 0))[0] == 0
    more = {"signing_key": SigningKey(bytes(range(32)))} if signed else {}
    made = forged(key_of(billing), mode, Slot(Position(9, 1, 0), 3), **more)
    assert billing.read(made) == (ErrorCode.CORRUPT_MESSAGE, b"")
    told = [event["data"]["reason"] for event in audited if event["type"].endswith("batch.refused")]
    assert told == ["signature" if signed else "no signature"]


def test_a_changed_batch_does_not_open(members):
    shop, billing = members()
    _, stored = shop.seal(client_batch(1))
    changed = stored[:-3] + bytes((stored[-3] ^ 1,)) + stored[-2:]  # in the signature, which ends right before
    assert billing.read(at_offset(changed, 0))[0] == ErrorCode.CORRUPT_MESSAGE
    assert billing.read(at_offset(stored, 0))[0] == 0


def test_a_signed_batch_counts_in_its_partition_alone(members):
    shop, billing = members()
    _, stored = shop.seal(BATCH, partition=1)
    assert billing.read(at_offset(stored, 0))[0] == ErrorCode.CORRUPT_MESSAGE
    assert billing.read(at_offset(stored, 0), partition=1)[0] == 0


@pytest.mark.parametrize(
    ("rule", "checkpoint", "is_signed"),
    [({}, {}, True), ({"sign": False}, {}, False), ({}, {"signatures": False}, False)],
)
def test_the_realm_demands_signatures_and_a_rule_may_forgo_them(members, rule, checkpoint, is_signed):
    shop, billing = members(checkpoint, **rule)
    _, stored = shop.seal(BATCH)
    trailer = peek(memoryview(stored), read_header(stored)).trailer
    assert len(trailer) == (64 if is_signed else 0)
    assert billing.read(at_offset(stored, 0)) == (0, at_offset(BATCH, 0))


def test_what_a_new_checkpoint_demands_begins_a_new_key(members, world):
    shop, billing = members({"signatures": False})
    shop.seal(BATCH)
    world.members.checkpoint()
    world.deliver()
    _, stored = shop.seal(BATCH)
    assert peek(memoryview(stored), read_header(stored)).trailer
    assert billing.read(at_offset(stored, 0))[0] == 0
    assert shop.process.keys.announcements == 2


def test_each_key_is_signed_for_with_another_one(members, world):
    shop, _ = members()
    shop.seal(BATCH)
    shop.process.keys.reload()
    shop.seal(BATCH)
    view = shop.process.keys.control.view
    keys = [view.announcements(kid)[0].announced.announcement.epoch.batch_key for kid in view.kids()]
    assert len(set(keys)) == 2
    assert None not in keys
