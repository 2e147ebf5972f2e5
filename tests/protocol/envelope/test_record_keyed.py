"""Records each under the epoch key of its record key: sealed, opened, and opened around those that are erased."""

import pytest

from kveil.protocol.envelope import record_keyed
from kveil.protocol.envelope.errors import Reason, Unopenable
from kveil.protocol.envelope.header import KeyBlock
from kveil.protocol.envelope.key_schedule import EpochKey, KeyHidingKey, derive_kid
from kveil.protocol.envelope.record import unseal_records
from kveil.protocol.envelope.record_keyed import record_keys, seal_keyed_records, unseal_around
from kveil.protocol.envelope.sealed_records import peek_records
from kveil.protocol.kafka import compression
from kveil.protocol.kafka.errors import InvalidRecord
from kveil.protocol.kafka.record_batch import check_produced, read_header
from kveil.protocol.kafka.records import NO_HEADERS, read_headers, read_records
from tests.protocol.envelope.conftest import LOOPS
from tests.vectors import reference
from tests.vectors.reference import Batch

REALM, TOPIC, PARTITION = "demo", "orders", 3
BLOCK = KeyBlock(provider=8, name="customers", mechanism=0, version="", wrapped=b"")
HIDING = KeyHidingKey(id=bytes(16), secret=bytes(range(32)), realm=REALM, topic=TOPIC)
# Alice, Bob, none, Alice again with another value, a tombstone of Bob's
RECORDS = [(b"alice", b"a1", 0), (b"bob", b"b1", 5), (None, b"n", -7), (b"alice", b"a2", 9), (b"bob", None, 2)]


@pytest.fixture(autouse=True, params=LOOPS)
def either_loops(request, monkeypatch):
    from kveil.protocol.envelope import record, sealed_records

    for module in (record, record_keyed, sealed_records):
        if hasattr(module, "loops"):
            monkeypatch.setattr(module, "loops", LOOPS[request.param])


def key_of(record_key):
    secret = (record_key or b"-").ljust(32, b".")
    kid = derive_kid(secret, realm=REALM, topic=TOPIC, provider=8)
    return EpochKey(secret=secret, realm=REALM, topic=TOPIC, kid=kid, block=BLOCK)


KEYS = {(key.kid, BLOCK): key for key in map(key_of, (b"alice", b"bob", None))}


def client_batch(records=RECORDS, codec=0):
    section = b"".join(reference.record(i, key, value, delta) for i, (key, value, delta) in enumerate(records))
    return Batch(compression.compress(codec, section), len(records), attributes=codec, producer_id=7,
                 producer_epoch=0, base_sequence=4).encode()  # fmt: skip


def sealed(client, hiding=HIDING, **options):
    view = memoryview(client)
    return b"".join(
        seal_keyed_records(view, check_produced(view), key_of=key_of, hiding=hiding, partition=PARTITION, **options)
    )


def peeked(stored):
    return peek_records(memoryview(stored), read_header(stored))


def contents(batch):
    top = read_header(batch)
    found = read_records(bytes(batch[61:]), top.record_count, top.last_offset_delta)
    return [(offset, top.base_timestamp + delta, key, value, more) for delta, offset, key, value, more in found]


def expected(hiding=HIDING):
    base = read_header(client_batch()).base_timestamp
    return [(at, base + delta, key, value, NO_HEADERS) for at, (key, value, delta) in enumerate(RECORDS)]


@pytest.mark.parametrize("codec", range(5))
@pytest.mark.parametrize("hiding", [HIDING, None], ids=["hidden", "clear"])
def test_both_ways(codec, hiding):
    stored = sealed(client_batch(codec=codec), hiding, codec=codec)
    back = b"".join(unseal_records(peeked(stored), keys=KEYS, hiding=hiding, partition=PARTITION))
    assert contents(back) == expected()
    outer = read_header(stored)
    assert (outer.producer_id, outer.base_sequence, outer.record_count) == (7, 4, 5)


def test_each_record_stands_under_its_own_key():
    found = peeked(sealed(client_batch()))
    kids = [key_of(key).kid for key, _, _ in RECORDS]
    assert [record[0].kid for record in found.records] == kids
    assert {origin.salt for origin in found.origins} == {found.origins[0].salt}


def test_no_nonce_comes_twice():
    """A key, a salt and an index are one nonce: all records of one key, ten at a time."""
    client = client_batch([(b"alice", b"%d" % number, 0) for number in range(10)] + RECORDS)
    found = peeked(sealed(client))
    used = [(record[0].kid, record[0].salt, record[1]) for record in found.records]
    assert len(set(used)) == len(used) == 15


def test_two_batches_share_no_salt():
    assert peeked(sealed(client_batch())).origins[0].salt != peeked(sealed(client_batch())).origins[0].salt


def test_which_keys_a_batch_has():
    for codec in range(5):
        view = memoryview(client_batch(codec=codec))
        assert record_keys(view, check_produced(view)) == {b"alice", b"bob", None}


@pytest.mark.parametrize("work", [sealed, lambda client: record_keys(memoryview(client), read_header(client))])
def test_what_is_no_record_is_refused(work):
    good = client_batch()
    with pytest.raises(InvalidRecord):
        work(Batch(good[61:-1] + b"\x02", 5).encode())


def around(stored, *erased, hiding=HIDING, is_its_key=lambda wire_key, is_hidden: True, **options):
    gone = {(key_of(key).kid, BLOCK): is_its_key for key in erased}
    keys = {place: key for place, key in KEYS.items() if place not in gone}
    view = memoryview(stored)
    return b"".join(
        unseal_around(view, peeked(stored), is_its_key=gone, keys=keys, hiding=hiding, partition=PARTITION, **options)
    )


@pytest.mark.parametrize("codec", [0, 4])
@pytest.mark.parametrize("erased", [(b"alice",), (b"bob",), (None,), (b"alice", b"bob"), (b"alice", b"bob", None)])
@pytest.mark.parametrize("hiding", [HIDING, None], ids=["hidden", "clear"])
def test_the_others_open_where_one_is_erased(erased, hiding, codec):
    """The erased records are there, with their offsets and the wire's times: no value, and a header that says why."""
    found = contents(around(sealed(client_batch(), hiding, codec=codec), *erased, hiding=hiding))
    assert len(found) == 5
    for got, want in zip(found, expected(), strict=True):
        if want[2] not in erased:
            assert got == want
            continue
        wire = want[2] if hiding is None or want[2] is None else HIDING.wire_key(want[2])
        assert got[:4] == (want[0], want[1], wire, None)
        ((name, why, _),) = read_headers(got[4])[0]
        assert (name, why) == (b"kveil-erased", b"the epoch key of this record key was erased")


def test_the_header_of_what_is_opened_around():
    client = client_batch()
    top = read_header(around(sealed(client), b"alice"))
    assert (top.producer_id, top.base_sequence, top.record_count, top.last_offset_delta) == (7, 4, 5, 4)
    assert top.max_timestamp == max(stamp for _, stamp, *_ in expected())


def test_an_erasure_is_for_its_own_record_key():
    """A broker can write an envelope with an erased kid, and any key beside it: that is no deletion of that key."""
    seen = []

    def is_its_key(wire_key, is_hidden):
        seen.append((wire_key, is_hidden))
        return False

    with pytest.raises(Unopenable, match=Reason.WIRE_KEY):
        around(sealed(client_batch()), b"bob", is_its_key=is_its_key)
    with pytest.raises(Unopenable, match=Reason.WIRE_KEY):
        around(sealed(client_batch(), None), b"bob", hiding=None, is_its_key=is_its_key)
    assert seen == [(HIDING.wire_key(b"bob"), True), (b"bob", False)]


def test_what_is_not_erased_must_open():
    stored = bytearray(sealed(client_batch()))
    stored[-20] ^= 1  # in Bob's tombstone
    with pytest.raises(Unopenable):
        around(bytes(stored), b"alice")
    assert contents(around(bytes(stored), b"bob"))[0][3] == b"a1"


def test_a_brokers_time_is_refused_where_the_rule_says_so():
    stored = bytearray(sealed(client_batch()))
    stored[22] |= 8
    with pytest.raises(Unopenable, match=Reason.TIMESTAMP_TYPE):
        around(bytes(stored), b"alice", create_time_only=True)
