"""Announcements and regrants: who opens them, to what, and what else they are bound to."""

import os
from dataclasses import replace

import pytest

from kveil.protocol.envelope.key_schedule import derive_kid
from kveil.protocol.identity.announcement import Announcement, Ending, key_block
from kveil.protocol.identity.crypto import KemSuite, hpke_seal
from kveil.protocol.identity.errors import Malformed, Refused
from kveil.protocol.identity.progress import Mark
from kveil.protocol.identity.record import encode_record
from kveil.protocol.identity.regrant import Regrant
from kveil.protocol.identity.wrapping import EPOCH_KEY, REGRANT, Wrap, wrap_for
from tests.support.realm import NOW, Realm, announcement_of, consumes, keeps, produces

SECRET, OTHER = bytes(range(32)), bytes(range(1, 33))


@pytest.fixture(params=list(KemSuite), ids=lambda suite: suite.name)
def realm(request):
    made = Realm(suite=request.param)
    made.checkpoint()
    return made


@pytest.fixture
def nodes(realm):
    return (
        realm.node("producer", produces()),
        realm.node("reader", consumes()),
        realm.node("keeper", keeps()),
        realm.node("late", consumes()),
    )


def test_opens_for_recipients_and_for_nobody_else(realm, nodes):
    producer, reader, keeper, late = nodes
    announced = announcement_of(realm.announce(producer, SECRET, reader, keeper))
    assert announced.open(reader.keys) == announced.open(keeper.keys) == SECRET
    assert list(announced.recipients) == sorted((reader.keys.id, keeper.keys.id))
    with pytest.raises(Refused, match="not a recipient"):
        announced.open(late.keys)
    # Another's wrap opens neither with one's own key, nor under one's own id.
    stolen = replace(announced, wraps=tuple(Wrap(late.keys.id, wrap.wrapped) for wrap in announced.wraps[:1]))
    with pytest.raises(Refused, match="not sealed for this key"):
        stolen.open(late.keys)


def test_a_wrap_is_bound_to_all_that_is_announced(realm, nodes):
    producer, reader, _, _ = nodes
    ending = Ending(kid=bytes(16), marks=(Mark(bytes(16), 0, 0, 4),))
    record = realm.announce(producer, SECRET, reader, replaces=ending)
    changes = [
        {1: "other"}, {2: bytes(32)}, {3: bytes(32)}, {4: "pay"}, {5: bytes(16)}, {6: bytes(32)}, {7: NOW + 1},
        {8: NOW + 1},
        {9: b"c" * 16}, {10: 2, 11: b"h" * 32}, {12: [2, bytes(32)]}, {13: None}, {14: False}, {15: None},
    ]  # fmt: skip
    for change in changes:
        changed = Announcement.from_map(record.fields | change)
        with pytest.raises(Refused, match="not sealed for this key"):
            changed.open(reader.keys)


def test_a_key_that_isnt_the_announced_one(realm, nodes):
    """Whoever wraps another key for one reader, producer or keeper, is found out by that reader."""
    producer, reader, keeper, late = nodes
    record = realm.announce(producer, SECRET, reader, keeper)
    announced = announcement_of(record)
    for secret in (OTHER, SECRET + b"\0", SECRET[:31]):
        info = EPOCH_KEY + announced.bound_to + reader.keys.id
        wrapped = hpke_seal(realm.suite, reader.keys.public.kem, info, secret)
        with pytest.raises(Refused, match=r"another key|length of the epoch key"):
            replace(announced, wraps=(Wrap(reader.keys.id, wrapped),)).open(reader.keys)
    made = Regrant.from_map(realm.regrant(keeper, record, SECRET, late).fields)
    forged = replace(made, wraps=wrap_for([late.keys.public], REGRANT, made.bound_to, OTHER))
    with pytest.raises(Refused, match="another key"):
        forged.open(late.keys, announced)
    with pytest.raises(Refused, match="another key"):
        realm.regrant(keeper, record, OTHER, late)


def test_regrants(realm, nodes):
    producer, reader, keeper, late = nodes
    record = realm.announce(producer, SECRET, keeper)
    made = Regrant.from_map(realm.regrant(keeper, record, SECRET, late).fields)
    assert made.open(late.keys, announcement_of(record)) == SECRET
    with pytest.raises(Refused, match="not a recipient"):
        made.open(reader.keys, announcement_of(record))
    record_fields = dict(realm.regrant(keeper, record, SECRET, late).fields)
    for key, value in {2: bytes(32), 3: bytes(32), 4: bytes(32), 5: bytes(16), 6: "pay"}.items():
        with pytest.raises(Refused, match="not sealed for this key"):
            Regrant.from_map(record_fields | {key: value}).open(late.keys, announcement_of(record))


def test_gives_the_key_of_batches(realm, nodes):
    producer, reader, _, _ = nodes
    announced = announcement_of(realm.announce(producer, SECRET, reader))
    key = announced.epoch_key(announced.open(reader.keys))
    assert key.kid == derive_kid(SECRET, realm="demo", topic="orders", provider=7, producer_id=producer.keys.id)
    assert key.block == key_block("orders", announced.recipients)
    assert (key.block.provider, key.block.name, key.block.mechanism, key.block.wrapped) == (7, "orders", 0, b"")
    assert len(key.block.version) == 16


def test_nobody_can_take_anothers_kid(realm, nodes):
    """The kid is derived with the producer's id."""
    producer, reader, _, late = nodes
    one = announcement_of(realm.announce(producer, SECRET, reader))
    other = announcement_of(realm.announce(late, SECRET, reader))
    assert one.kid != other.kid
    with pytest.raises(Refused, match="another key"):
        replace(other, kid=one.kid, check=one.check).check_secret(SECRET)


@pytest.mark.parametrize(
    "change",
    [{5: bytes(15)}, {6: bytes(31)}, {8: NOW - 1}, {8: NOW + 86_401}, {9: bytes(15)}, {10: 0}, {10: 2},
     {11: b"h" * 32}, {12: [0, bytes(32)]},
     {13: bytes(31)}, {14: None}, {15: []}, {15: [bytes(16), [[0, 0, 1]] * 2]}, {15: [bytes(16), [[2**31, 0, 1]]]},
     {16: []},
     {16: [[bytes(32), bytes(79)]]}, {16: [[bytes(32), bytes(80)]] * 2},
     {16: [[bytes(32), bytes(80)], [b"1" * 32, bytes(1168)]]},
     {16: [[b"2" * 32, bytes(80)], [b"1" * 32, bytes(80)]]}],
    ids=str,
)  # fmt: skip
def test_what_an_announcement_cant_say(change):
    realm = Realm()
    realm.checkpoint()
    producer = realm.node("producer", produces())
    fields = realm.announce(producer, SECRET, realm.node("reader", consumes())).fields
    with pytest.raises(Malformed):
        Announcement.from_map(fields | change)


def test_recipients_that_cant_be():
    realm = Realm()
    reader, other = realm.node("reader").keys.public, Realm(suite=KemSuite.MLKEM768_X25519).node("other").keys.public
    for recipients in ([], [reader, reader], [reader, other]):
        with pytest.raises(Malformed):
            wrap_for(recipients, EPOCH_KEY, bytes(32), SECRET)
    with pytest.raises(Malformed, match="length of the epoch key"):
        wrap_for([reader], EPOCH_KEY, bytes(32), SECRET[:31])


@pytest.mark.parametrize("twice", [False, True])
def test_a_hundred_post_quantum_recipients_fit(twice):
    realm = Realm(suite=KemSuite.MLKEM768_X25519, twice=twice)
    realm.checkpoint()
    producer, readers = realm.node("producer"), [realm.node(f"reader{n}") for n in range(100)]
    record = realm.announce(producer, os.urandom(32), *readers)
    assert len(record.cose) < 130_000
    assert announcement_of(record).open(readers[50].keys)


def test_secrets_arent_shown():
    realm = Realm()
    realm.checkpoint()
    made = announcement_of(realm.announce(realm.node("producer"), SECRET, realm.node("reader")))
    assert made.wraps[0].wrapped.hex()[:16] not in repr(made) + repr(made.wraps)
    assert repr(made.wraps[0].wrapped) not in repr(made) + repr(made.wraps)


def test_a_hundred_recipients_fit_in_130_kb():
    """With post-quantum keys, the longest topic name, and the marks of a hundred lanes of the key before."""
    realm = Realm(suite=KemSuite.MLKEM768_X25519)
    realm.checkpoint()
    producer = realm.node("producer", produces())
    readers = [realm.node(f"reader-{each}", consumes()) for each in range(100)]
    ending = Ending(kid=bytes(16), marks=tuple(Mark(bytes(16), lane, lane, 2**63 - 1) for lane in range(100)))
    record = realm.announce(producer, SECRET, *readers, replaces=ending, topic="t" * 249)
    assert len(announcement_of(record).recipients) == 100
    assert 100 * 1168 < len(b"".join(encode_record(record))) < 130_000
