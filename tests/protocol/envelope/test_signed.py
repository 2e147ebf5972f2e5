"""Envelopes with signatures and positions: what they say comes through, and nobody but the producer can make them."""

import hashlib
import os
from types import MappingProxyType, SimpleNamespace

import pytest

from kveil.protocol.envelope.batch import StubCodec, peek, seal, unseal
from kveil.protocol.envelope.crypto import SigningKey, VerifyKey
from kveil.protocol.envelope.errors import EnvelopeError, NotSealed, Unopenable
from kveil.protocol.envelope.header import KeyBlock
from kveil.protocol.envelope.key_schedule import EpochKey, KeyHidingKey, derive_kid
from kveil.protocol.envelope.lane import Lane
from kveil.protocol.envelope.origin import COMMON_LENGTH
from kveil.protocol.envelope.position import Position, Slot
from kveil.protocol.envelope.record import peek_records, seal_records, unseal_records
from kveil.protocol.envelope.seen import seen_in
from kveil.protocol.kafka import compression
from kveil.protocol.kafka.record_batch import check_produced, read_header
from kveil.protocol.kafka.records import read_headers, read_records
from tests.vectors import reference
from tests.vectors.record_reference import Plain, RecordSealer, header, headers
from tests.vectors.reference import Batch, Sealer, client_records

pytestmark = pytest.mark.usefixtures("loops")

PRODUCER = SigningKey(bytes(range(32)))
FORGER = SigningKey(bytes(range(1, 33)))
SECRET = bytes(range(100, 132))
ANNOUNCED = KeyBlock(provider=7, name="main", mechanism=0, version="", wrapped=b"")
HIDING = KeyHidingKey(id=bytes(16), secret=bytes(32), realm="demo", topic="orders")
PLAIN = [Plain(b"a", b"one"), Plain(b"a", None), Plain(None, b"two", headers=headers(header(b"h", b"v")))]
POSITION = Position(4, 2, 9, bytes(range(16)), 1)


def epoch_key(block=ANNOUNCED, *, realm="demo", topic="orders", **fields):
    kid = derive_kid(SECRET, realm=realm, topic=topic, provider=block.provider)
    return EpochKey(secret=SECRET, realm=realm, topic=topic, kid=kid, block=block, **fields)


WRITER = epoch_key(signing_key=PRODUCER, demands_signature=True, demands_position=True)
READER = epoch_key(verify_key=PRODUCER.verify_key, demands_signature=True, demands_position=True)
SIGNING, VERIFYING = epoch_key(signing_key=PRODUCER), epoch_key(verify_key=PRODUCER.verify_key)
BARE = epoch_key()


def batch_mode(key=WRITER, slot=None, count=3, size=None, **options):
    records = client_records(count) if size is None else reference.record(0, None, os.urandom(size)) * count
    client = Batch(records, count).encode()
    view = memoryview(bytearray(client))
    sealed = seal(view, check_produced(view), key=key, partition=3, slot=slot, **options)
    return client, b"".join(sealed)


def open_batch(stored, key=READER, partition=3):
    view = memoryview(stored)
    sealed = peek(view, read_header(view))
    return b"".join(unseal(sealed, key=key, partition=partition)), sealed


def record_mode(key=WRITER, slot=None, hiding=HIDING, **options):
    section = b"".join(reference.record(i, p.key, p.value, p.delta, p.headers) for i, p in enumerate(PLAIN))
    client = Batch(section, len(PLAIN), max_timestamp=1_700_000_000_000).encode()
    view = memoryview(client)
    sealed = seal_records(view, check_produced(view), key=key, hiding=hiding, partition=3, slot=slot, **options)
    return client, b"".join(sealed)


def open_records(stored, key=READER, partition=3, hiding=HIDING):
    view = memoryview(stored)
    sealed = peek_records(view, read_header(view))
    keys = dict.fromkeys(sealed.keys, key)
    return b"".join(unseal_records(sealed, keys=keys, hiding=hiding, partition=partition)), sealed


MODES = [
    pytest.param(SimpleNamespace(seal=batch_mode, open=open_batch, name="batch"), id="batch"),
    pytest.param(SimpleNamespace(seal=record_mode, open=open_records, name="record"), id="record"),
]
both = pytest.mark.parametrize("mode", MODES)


def envelopes(stored):
    """The envelopes in a batch, each with its wire key."""
    top = read_header(stored)
    section = bytes(compression.decompress(top.codec, stored[61:], 1 << 28))
    for _, _, key, value, raw in read_records(section, top.record_count, top.last_offset_delta):
        for envelope in [value, *(content for name, content, _ in read_headers(raw)[0] if name == b"kveil")]:
            if envelope is not None:
                yield envelope, key


def slot_at(position=POSITION):
    return Slot(position, 3)


class TestBothWays:
    @both
    @pytest.mark.parametrize(("writer", "reader"), [(WRITER, READER), (SIGNING, VERIFYING), (SIGNING, SIGNING)])
    def test_the_client_gets_its_own_bytes(self, mode, writer, reader):
        slot = slot_at()
        client, stored = mode.seal(writer, slot)
        check_produced(memoryview(stored))
        opened, sealed = mode.open(stored, reader)
        assert opened == client
        assert {each.position for each in seen_in(sealed)} == {POSITION}
        assert seen_in(sealed)[0].digest == slot.digest == hashlib.sha256(next(envelopes(stored))[0]).digest()[:16]

    @both
    @pytest.mark.parametrize("slot", [None, slot_at()])
    @pytest.mark.parametrize("key", [BARE, SIGNING])
    def test_each_without_the_other(self, mode, slot, key):
        client, stored = mode.seal(key, slot)
        opened, sealed = mode.open(stored, VERIFYING)
        assert opened == client
        assert bool(seen_in(sealed)) == (slot is not None)

    @both
    def test_the_origin_partition_stands_behind_them(self, mode):
        client, stored = mode.seal(WRITER, slot_at(), origin_partition=True)
        assert mode.open(stored)[0] == client

    @pytest.mark.parametrize("codec", [0, 1, 4])
    def test_records_in_a_compressed_batch(self, codec):
        client, stored = record_mode(WRITER, slot_at(), codec=codec)
        assert open_records(stored)[0] == client

    def test_records_with_keys_in_sight(self):
        client, stored = record_mode(WRITER, slot_at(), hiding=None)
        assert open_records(stored)[0] == client

    @pytest.mark.parametrize("size", [131_072 - 200 - off for off in range(0, 300, 12)])
    @pytest.mark.parametrize("writable", [True, False])
    def test_a_trailer_around_the_ends_of_zstd_blocks(self, size, writable):
        client = Batch(bytes(size), 16, attributes=1).encode()
        view = memoryview(bytearray(client))
        stored = b"".join(seal(view, check_produced(view), key=WRITER, partition=3, slot=slot_at()))
        assert read_header(stored).codec == compression.ZSTD
        assert open_batch(bytearray(stored) if writable else stored)[0] == client

    def test_a_trailer_that_a_broker_put_into_many_blocks(self):
        client, stored = batch_mode(WRITER, slot_at(), 20, stub_codec=StubCodec.NONE)
        for size in (50, 63, 64, 65, 100):
            section = reference.zstd_raw(stored[61:], size)
            cut = Batch(section, 20, attributes=4, base_timestamp=0).encode()
            assert open_batch(bytearray(cut))[0] == client

    def test_seen_says_where(self):
        _, stored = record_mode(WRITER, slot_at())
        seen = seen_in(open_records(stored)[1])
        assert [(each.kid, each.offset, each.nth) for each in seen] == [(WRITER.kid, n, n) for n in range(3)]
        assert [each.digest for each in seen] == [hashlib.sha256(e).digest()[:16] for e, _ in envelopes(stored)]

    @both
    def test_a_lane_goes_from_batch_to_batch(self, mode):
        lane, before = Lane(1), bytes(16)
        for number in range(1, 4):
            slot = lane.next(3)
            _, stored = mode.seal(WRITER, slot)
            lane.sealed(slot)
            position = seen_in(mode.open(stored)[1])[0].position
            assert (position.batch, position.record, position.previous) == (number, 3 * (number - 1), before)
            before = hashlib.sha256(next(envelopes(stored))[0]).digest()[:16]


class TestAgainstTheReference:
    """The second writer knows the specification alone."""

    CHANGES = MappingProxyType({"provider": 7, "mechanism": 0, "key_version": "", "wrapped": b""})

    def sealer(self, kind, **fields):
        made = {"secret": SECRET, "signing": bytes(range(32)), "position": POSITION.encode(), "hiding_id": bytes(16)}
        made |= {"hiding": bytes(32)}
        names = kind.__dataclass_fields__
        return kind(**{name: value for name, value in (made | fields).items() if name in names}, **self.CHANGES)

    def test_batch_mode(self, monkeypatch):
        sealer = self.sealer(Sealer, client=Batch(client_records(3), 3))
        monkeypatch.setattr(os, "urandom", lambda size: (sealer.salt + sealer.record_key)[:size])
        assert batch_mode(WRITER, slot_at())[1] == sealer.seal()

    @pytest.mark.parametrize("hiding", [HIDING, None])
    def test_record_mode(self, monkeypatch, hiding):
        client = Batch(b"", 3, max_timestamp=1_700_000_000_000)
        sealer = self.sealer(RecordSealer, client=client, records=PLAIN, **({} if hiding else {"hiding": None}))
        monkeypatch.setattr(os, "urandom", lambda size: sealer.salt[:size])
        assert record_mode(WRITER, slot_at(), hiding)[1] == sealer.seal()


class TestRefused:
    @both
    def test_a_change_of_any_byte(self, mode):
        _, stored = mode.seal(WRITER, slot_at(), **({"stub_codec": StubCodec.NONE} if mode.name == "batch" else {}))
        envelope = next(envelopes(stored))[0]
        start = stored.index(envelope)
        for at in range(start, start + len(envelope)):
            for bit in (1, 0x80):
                changed = bytearray(stored)
                changed[at] ^= bit
                with pytest.raises((Unopenable, NotSealed)):
                    mode.open(changed)

    @both
    @pytest.mark.parametrize("change", [{"realm": "demo2"}, {"topic": "orders2"}])
    def test_another_realm_or_topic(self, mode, change):
        """The kid differs too: the signature is asked by itself below."""
        _, stored = mode.seal(WRITER, slot_at())
        with pytest.raises(Unopenable):
            mode.open(stored, epoch_key(verify_key=PRODUCER.verify_key, **change))

    @pytest.mark.parametrize("change", [{"realm": "demo2"}, {"topic": "orders2"}, {"topic": "rders", "realm": "demoo"}])
    def test_a_signature_is_of_one_place(self, change):
        signature = SIGNING.sign(3, bytes(32))
        VERIFYING.check_signature(signature, 3, bytes(32))
        for key, partition, digest in [
            (epoch_key(verify_key=PRODUCER.verify_key, **change), 3, bytes(32)),
            (VERIFYING, 2, bytes(32)),
            (VERIFYING, 3, bytes(31) + b"\x01"),
        ]:
            with pytest.raises(Unopenable, match=r"^signature$"):
                key.check_signature(signature, partition, digest)

    @both
    def test_another_partition(self, mode):
        _, stored = mode.seal(WRITER, slot_at())
        with pytest.raises(Unopenable, match=r"commitment|tag"):
            mode.open(stored, partition=2)

    @both
    def test_forged_by_one_who_may_read(self, mode):
        """All that the producer has but its signing key."""
        for forger, reason in [
            (epoch_key(signing_key=FORGER), "^signature$"),
            (BARE, "no signature"),
        ]:
            _, stored = mode.seal(forger, slot_at())
            with pytest.raises(Unopenable, match=reason):
                mode.open(stored)
        _, stored = mode.seal(SIGNING)
        with pytest.raises(Unopenable, match="no stream position"):
            mode.open(stored)

    @both
    def test_a_signature_of_another_envelope(self, mode):
        """Same key, same content, but each has its own salt."""
        (_, one), (_, two) = (mode.seal(WRITER, slot_at()) for _ in range(2))
        mine, other = next(envelopes(one))[0], next(envelopes(two))[0]
        with pytest.raises(EnvelopeError, match="signature"):
            mode.open(one.replace(mine[-64:], other[-64:])[:61] + one[61:].replace(mine[-64:], other[-64:]))

    @both
    def test_what_nobody_can_check(self, mode):
        _, stored = mode.seal(SIGNING)
        with pytest.raises(Unopenable, match="can't be checked"):
            mode.open(stored, BARE)

    @both
    @pytest.mark.parametrize("cut", [1, 63, 64, 65, 80])
    def test_a_trailer_that_is_cut(self, mode, cut):
        _, stored = mode.seal(WRITER, slot_at())
        with pytest.raises(Unopenable, match="length"):
            mode.open(rebuilt(stored, lambda envelope: envelope[:-cut]))
        assert mode.open(rebuilt(stored, lambda envelope: envelope))[0]

    @both
    def test_a_trailer_that_nothing_speaks_of(self, mode):
        _, stored = mode.seal(BARE)
        with pytest.raises(Unopenable, match="length"):
            mode.open(rebuilt(stored, lambda envelope: envelope + bytes(64)), BARE)

    @both
    def test_a_stripped_extension(self, mode):
        """By a broker, who can't seal: what is left doesn't open."""
        _, stored = mode.seal(WRITER, slot_at())
        length = 3 + 46
        for at, size, behind in [(71, length, 0), (71 + length, 6, 64)]:

            def strip(envelope, at=at, size=size, behind=behind):
                kept = bytearray(envelope[:at] + envelope[at + size : len(envelope) - behind])
                kept[6:8] = (int.from_bytes(kept[6:8], "big") - size).to_bytes(2, "big")
                return bytes(kept)

            with pytest.raises(Unopenable, match=r"commitment|tag"):
                mode.open(rebuilt(stored, strip))

    def test_the_key_of_a_record_is_signed(self):
        """By one who may read, who gives a signed value another key that isn't hidden."""
        _, stored = record_mode(SIGNING, hiding=None)
        first, _ = next(envelopes(stored))
        start = 56 + int.from_bytes(first[6:8], "big")
        cipher = SIGNING.record_cipher(3, first[24:48])
        plaintext = cipher.decrypt(0, first[start:-64], first[:start] + b"\x01a", "")
        forged = first[:start] + cipher.encrypt(0, plaintext, first[:start] + b"\x01b") + first[-64:]
        section = reference.record(0, b"b", forged)
        with pytest.raises(Unopenable, match=r"^signature$"):
            open_records(Batch(section, 1).encode(), VERIFYING, hiding=None)


def rebuilt(stored, change):
    """The batch with its first envelope changed."""
    top = read_header(stored)
    section = bytes(compression.decompress(top.codec, stored[61:], 1 << 28))
    records = list(read_records(section, top.record_count, top.last_offset_delta))
    made = b""
    for number, (delta, offset, key, value, raw) in enumerate(records):
        made += reference.record(offset, key, value if number else change(value), delta, raw)
    fields = {"base_timestamp": top.base_timestamp, "max_timestamp": top.max_timestamp}
    return Batch(made, top.record_count, last_offset_delta=top.last_offset_delta, **fields).encode()


class TestKeys:
    BLOCK = KeyBlock(provider=1, name="main", mechanism=1, version="1", wrapped=bytes(72))

    @pytest.mark.parametrize(
        "fields",
        [{"signing_key": PRODUCER}, {"verify_key": PRODUCER.verify_key}, {"demands_position": True}],
        ids=str,
    )
    def test_only_announced_keys_have_more(self, fields):
        with pytest.raises(ValueError, match="announced"):
            epoch_key(self.BLOCK, **fields)

    @both
    def test_other_keys_have_no_place_for_it(self, mode):
        with pytest.raises(ValueError, match="announced"):
            mode.seal(epoch_key(self.BLOCK), slot_at())
        assert len({len(next(envelopes(mode.seal(epoch_key(self.BLOCK))[1]))[0]) for _ in range(2)}) == 1

    @both
    def test_nothing_is_sealed_that_a_reader_would_refuse(self, mode):
        with pytest.raises(ValueError, match="position"):
            mode.seal(WRITER)
        with pytest.raises(ValueError, match="producer"):
            mode.seal(READER, slot_at())
        with pytest.raises(ValueError, match="no position"):
            mode.seal(SIGNING, slot_at(POSITION._replace(batch=0)))

    def test_a_demand_needs_what_it_is_checked_with(self):
        with pytest.raises(ValueError, match="check"):
            epoch_key(demands_signature=True)

    def test_nothing_secret_is_shown(self):
        assert "SigningKey" not in repr(WRITER)
        assert SECRET.hex() not in repr(WRITER)
        assert repr(SECRET)[2:-1] not in repr(WRITER)

    @pytest.mark.parametrize("size", [0, 31, 33])
    def test_keys_have_32_bytes(self, size):
        for kind in (SigningKey, VerifyKey):
            with pytest.raises(ValueError, match="32"):
                kind(bytes(size))

    def test_common_length(self):
        """What the tests above count on: magic to salt."""
        assert COMMON_LENGTH == 48
