"""Records sealed and opened: against each other, the reference writer, and what brokers and replicators do."""

import os
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kveil.protocol.envelope import record as record_module
from kveil.protocol.envelope import sealed_records
from kveil.protocol.envelope.errors import NotSealed, Reason, Unopenable
from kveil.protocol.envelope.header import KeyBlock
from kveil.protocol.envelope.key_schedule import EpochKey, KeyHidingKey
from kveil.protocol.envelope.record import peek_records, seal_records, unseal_records
from kveil.protocol.kafka import compression
from kveil.protocol.kafka.errors import BatchTooLarge, CorruptBatch, InvalidRecord
from kveil.protocol.kafka.record_batch import check_produced, read_header
from kveil.protocol.kafka.records import NO_HEADERS, read_headers, read_records
from tests.vectors import reference
from tests.vectors.record_reference import Plain, RecordSealer, header, headers
from tests.vectors.reference import Batch

pytestmark = pytest.mark.usefixtures("loops")

PARTITION = 3
CODECS = range(5)
SEALER = RecordSealer()


def epoch_key(**fields):
    made = RecordSealer(**fields)
    block = KeyBlock(provider=1, name="main", mechanism=1, version="1", wrapped=made.made_wrap())
    return EpochKey(secret=made.secret, realm=made.realm, topic=made.topic, kid=made.made_kid(), block=block)


KEY = epoch_key()
OTHER_KEY = epoch_key(secret=bytes(range(1, 33)))
KEYS = {(key.kid, key.block): key for key in (KEY, OTHER_KEY)}
HIDING = KeyHidingKey(id=SEALER.hiding_id, secret=SEALER.hiding, realm=SEALER.realm, topic=SEALER.topic)


def client_batch(records, codec=0, **fields):
    section = b"".join(reference.record(i, p.key, p.value, p.delta, p.headers) for i, p in enumerate(records))
    return Batch(compression.compress(codec, section), len(records), attributes=codec, **fields).encode()


def sealed_bytes(client, key=KEY, hiding=HIDING, **options):
    view = memoryview(client)
    return b"".join(seal_records(view, check_produced(view), key=key, hiding=hiding, partition=PARTITION, **options))


def peeked(stored):
    view = memoryview(stored)
    return peek_records(view, read_header(view))


def opened(stored, partition=PARTITION, hiding=HIDING, **options):
    return b"".join(unseal_records(peeked(stored), keys=KEYS, hiding=hiding, partition=partition, **options))


def contents(batch):
    """Each record as (offset, timestamp, key, value, headers)."""
    top = read_header(batch)
    section = bytes(compression.decompress(top.codec, batch[61:], 1 << 28))
    return [
        (top.base_offset + offset, top.base_timestamp + delta, key, value, made_headers)
        for delta, offset, key, value, made_headers in read_records(section, top.record_count, top.last_offset_delta)
    ]


def rebatched(batches, keep, codec=0, base_offset=0):
    """What a log cleaner and a replicator make of sealed batches: some records, put together in a new one."""
    found = [record for batch in batches for record in contents(batch)]
    kept = [(offset, *record[1:]) for offset, (record, stays) in enumerate(zip(found, keep, strict=True)) if stays]
    base = kept[0][1]
    section = b"".join(
        reference.record(offset, key, value, timestamp - base, made_headers)
        for offset, timestamp, key, value, made_headers in kept
    )
    fields = {"base_offset": base_offset, "base_timestamp": base, "last_offset_delta": len(found) - 1}
    return Batch(compression.compress(codec, section), len(kept), attributes=codec, **fields).encode()


parts = st.none() | st.binary(max_size=40) | st.sampled_from([0, 63, 64, 8192]).map(bytes)
header_lists = st.lists(
    st.builds(header, st.binary(max_size=9) | st.just(b"kveil"), st.none() | st.binary(max_size=9)), max_size=3
).map(lambda made: headers(*made))
plain_records = st.builds(
    Plain, parts, parts, st.integers(-100, 100_000), st.sampled_from([NO_HEADERS, NO_HEADERS]) | header_lists
)
record_lists = st.lists(plain_records, min_size=1, max_size=8)
producers = st.just({}) | st.fixed_dictionaries(
    {
        "producer_id": st.integers(0, 2**63 - 1),
        "producer_epoch": st.integers(0, 2**15 - 1),
        "base_sequence": st.integers(0, 2**31 - 1),
    }
)
hidings = st.sampled_from([HIDING, None])
slow = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class TestAgainstTheReference:
    @pytest.fixture(autouse=True)
    def known_salt(self, monkeypatch):
        monkeypatch.setattr(record_module.os, "urandom", lambda size: SEALER.salt[:size])

    @slow
    @given(record_lists, producers, st.booleans(), st.booleans())
    def test_writes_the_same_bytes(self, records, producer, is_hidden, is_origin_named):
        made = RecordSealer(
            client=Batch(b"", 1, **producer),
            records=records,
            hiding=SEALER.hiding if is_hidden else None,
            origin=PARTITION if is_origin_named else None,
        )
        hiding = HIDING if is_hidden else None
        assert sealed_bytes(made.made_client(), hiding=hiding, origin_partition=is_origin_named) == made.seal()
        assert opened(made.seal(), hiding=hiding) == made.opened()

    def test_a_transaction(self):
        client = Batch(b"", 3, attributes=0x10, producer_id=8, producer_epoch=1, base_sequence=2)
        made = RecordSealer(client=client)
        assert sealed_bytes(made.made_client()) == made.seal()


class TestBothWays:
    @slow
    @given(record_lists, producers, hidings, st.sampled_from(CODECS), st.sampled_from(CODECS))
    def test_the_client_gets_its_own_records(self, records, producer, hiding, client_codec, codec):
        client = client_batch(records, client_codec, **producer)
        stored = sealed_bytes(client, hiding=hiding, codec=codec)
        seen, sent, got = check_produced(memoryview(stored)), read_header(client), opened(stored, hiding=hiding)
        assert contents(got) == contents(client)
        assert (seen.codec, read_header(got).codec) == (codec, 0)
        for name in ("last_offset_delta", "producer_id", "producer_epoch", "base_sequence", "record_count"):
            assert getattr(read_header(got), name) == getattr(seen, name) == getattr(sent, name)
        assert (seen.base_timestamp, seen.max_timestamp) == (sent.base_timestamp, sent.max_timestamp)
        assert read_header(got).max_timestamp == max(record[1] for record in contents(client))
        check_produced(memoryview(got))

    @slow
    @given(st.data(), hidings, st.sampled_from(CODECS), st.integers(0, 2**60))
    def test_records_put_together_anew(self, data, hiding, codec, base_offset):
        clients = [client_batch(records) for records in data.draw(st.lists(record_lists, min_size=1, max_size=4))]
        keys = [data.draw(st.sampled_from([KEY, OTHER_KEY])) for _ in clients]
        batches = [sealed_bytes(client, key, hiding) for client, key in zip(clients, keys, strict=True)]
        count = sum(len(contents(client)) for client in clients)
        keep = data.draw(st.lists(st.booleans(), min_size=count, max_size=count).filter(any))
        stored = rebatched(batches, keep, codec, base_offset)
        got = opened(stored, hiding=hiding)
        sent = [record[1:] for client in clients for record in contents(client)]
        expected = [(base_offset + i, *record) for i, record in enumerate(sent) if keep[i]]
        assert contents(got) == expected
        assert read_header(got).last_offset == base_offset + count - 1

    def test_keys_are_named_once_each(self):
        batches = [sealed_bytes(client_batch([Plain(b"k", b"v")]), key) for key in (KEY, OTHER_KEY, KEY)]
        sealed = peeked(rebatched(batches, [True] * 3))
        assert sealed.keys == [(KEY.kid, KEY.block), (OTHER_KEY.kid, OTHER_KEY.block)]
        assert len(sealed.origins) == 3

    def test_ten_thousand_records(self):
        records = [Plain(b"key-%d" % (i % 50), None if i % 7 == 0 else b"value %d" % i, i) for i in range(10_000)]
        client = client_batch(records, compression.ZSTD)
        assert contents(opened(sealed_bytes(client, codec=compression.ZSTD))) == contents(client)

    def test_a_large_record(self):
        client = client_batch([Plain(b"k", os.urandom(3_000_000)), Plain(os.urandom(300_000), None)])
        assert contents(opened(sealed_bytes(client))) == contents(client)

    def test_the_clients_batch_stays_as_it_was(self):
        client = bytearray(client_batch([Plain(b"k", b"v")]))
        before = bytes(client)
        first, second = sealed_bytes(client), sealed_bytes(client)
        assert bytes(client) == before
        assert first != second
        assert opened(first) == opened(second)

    def test_what_the_client_sets_of_its_own_does_not_stay(self):
        client = Batch(reference.record(0, b"k", b"v"), 1, attributes=8, base_offset=9, leader_epoch=4).encode()
        top = read_header(sealed_bytes(client))
        assert (top.base_offset, top.partition_leader_epoch, top.attributes) == (0, 4, 0)

    def test_extra_headers_follow_the_clients_own(self):
        foreign = header(b"dlq.reason", b"x") + header(b"other", b"y")
        for inner in (NO_HEADERS, headers(header(b"trace", b"1"))):
            made = RecordSealer(
                records=[Plain(b"k", b"v", headers=inner)], placed=lambda envelope: (envelope, b"\x04" + foreign)
            )
            got = opened(made.seal(), extra_headers=frozenset({b"dlq.reason", b"trace"}))
            found, _ = read_headers(contents(got)[0][4])
            own = [(b"trace", b"1")] if inner != NO_HEADERS else []
            assert [pair[:2] for pair in found] == [*own, (b"dlq.reason", b"x")]
            assert contents(opened(made.seal()))[0][4] == inner


class TestOriginPartition:
    def test_any_partition_reads_what_names_its_own(self):
        client = client_batch([Plain(b"k", b"v"), Plain(b"k", None)])
        stored = sealed_bytes(client, origin_partition=True)
        for options in ({}, {"any_partition": True}, {"partition": 9, "any_partition": True}):
            assert contents(opened(stored, **options)) == contents(client)
        with pytest.raises(Unopenable, match="origin partition"):
            opened(stored, partition=9)

    def test_none_named(self):
        stored = sealed_bytes(client_batch([Plain(b"k", b"v")]))
        for options in ({}, {"any_partition": True}):
            with pytest.raises(Unopenable, match=r"^tag$"):
                opened(stored, partition=9, **options)


class TestSecrecy:
    SECRETS = (b"secret key", b"secret value", b"secret name", b"secret header")
    RECORDS = (Plain(b"secret key", b"secret value" * 9, headers=headers(header(b"secret name", b"secret header"))),)

    def test_nothing_of_a_record_is_in_the_stored_batch(self):
        stored = sealed_bytes(client_batch([*self.RECORDS, Plain(b"secret key", None)] * 20))
        assert all(secret not in stored for secret in self.SECRETS)

    def test_shown_keys_are_all_that_is_seen(self):
        stored = sealed_bytes(client_batch(self.RECORDS), hiding=None)
        assert [secret in stored for secret in self.SECRETS] == [True, False, False, False]
        assert contents(stored)[0][2] == b"secret key"

    def test_equal_keys_stay_equal(self):
        records = [Plain(key, b"v") for key in (b"a", b"b", b"a", None, b"")]
        first, second = (contents(sealed_bytes(client_batch(records), key)) for key in (KEY, OTHER_KEY))
        wire = [record[2] for record in first]
        assert wire == [record[2] for record in second]
        assert wire[0] == wire[2]
        assert wire[3] is None
        assert len({wire[0], wire[1], wire[4]}) == 3
        assert {len(key) for key in wire if key is not None} == {32}

    def test_no_salt_and_no_index_twice(self):
        batches = [sealed_bytes(client_batch([Plain(b"k", b"v")] * 5)) for _ in range(2)]
        sealed = [peeked(batch) for batch in batches]
        assert len({origin.salt for one in sealed for origin in one.origins}) == 2
        assert [[record[1] for record in one.records] for one in sealed] == [list(range(5))] * 2

    def test_what_is_peeked_shows_nothing(self):
        assert "value" not in repr(peeked(sealed_bytes(client_batch(self.RECORDS))))


class TestTampering:
    def test_no_flipped_byte_opens_to_anything_else(self):
        records = [Plain(b"key-1", b"value"), Plain(b"key-2", None), Plain(None, b"")]
        client = client_batch(records, producer_id=5, producer_epoch=0, base_sequence=7)
        stored = sealed_bytes(client)
        rng = random.Random(1)
        refused = 0
        for at in range(61, len(stored)):
            bad = bytearray(stored)
            bad[at] ^= 1 << rng.randrange(8)
            try:
                found = opened(bytes(bad))
            except (NotSealed, Unopenable):
                refused += 1
            else:
                assert [record[1:] for record in contents(found)] == [record[1:] for record in contents(client)]
        # Attributes and timestamp deltas of the three records mean nothing, and offsets are the broker's word.
        assert refused >= len(stored) - 61 - 3 * 4

    @settings(max_examples=150, deadline=None)
    @given(st.binary(max_size=300), st.sampled_from(CODECS), st.integers(0, 2))
    def test_noise_raises_nothing_else(self, noise, codec, where):
        if where:
            envelope = b"\xc5KV\x01" + bytes((where + 1, 1)) + noise
            value, made = (envelope, NO_HEADERS) if where == 1 else (None, headers(header(b"kveil", envelope)))
            noise = compression.compress(codec, reference.record(0, b"k", value, headers=made))
        with pytest.raises((NotSealed, Unopenable)):
            peeked(Batch(noise, 1, attributes=codec).encode())

    @settings(max_examples=100, deadline=None)
    @given(st.data())
    def test_changed_anywhere_inside_a_codec(self, data):
        stored = sealed_bytes(client_batch([Plain(b"key", b"v" * 50), Plain(b"key", None)]))
        section = bytearray(stored[61:])
        for _ in range(data.draw(st.integers(1, 3))):
            section[data.draw(st.integers(0, len(section) - 1))] = data.draw(st.integers(0, 255))
        codec = data.draw(st.sampled_from(CODECS))
        bad = Batch(compression.compress(codec, bytes(section)), 2, attributes=codec).encode()
        try:
            found = contents(opened(bad))
        except (NotSealed, Unopenable):
            return
        assert [record[2:4] for record in found] == [(b"key", b"v" * 50), (b"key", None)]

    def test_the_keys_given_must_be_those_named(self):
        sealed = peeked(sealed_bytes(client_batch([Plain(b"k", b"v")])))
        for keys in ({sealed.keys[0]: OTHER_KEY}, {}):
            with pytest.raises(Unopenable, match="another key"):
                unseal_records(sealed, keys=keys, hiding=HIDING, partition=PARTITION)

    def test_a_plain_record_after_many_sealed_ones(self):
        batches = [sealed_bytes(client_batch([Plain(b"k", b"v")] * 5)), client_batch([Plain(b"k", b"plain")])]
        for order in (batches, batches[::-1]):
            with pytest.raises(Unopenable, match="some records"):
                peeked(rebatched(order, [True] * 6))
        with pytest.raises(NotSealed):
            peeked(batches[1])


class TestWhatAClientSends:
    def test_malformed_records(self):
        good = reference.client_records(3)
        bad = [good[:-1], good + b"\x00", good[1:], b"", reference.record(0, b"k", b"v") * 3]
        for section in bad:
            for codec in CODECS[1:]:
                view = memoryview(Batch(compression.compress(codec, section), 3, attributes=codec).encode())
                with pytest.raises(InvalidRecord):
                    seal_records(view, check_produced(view), key=KEY, hiding=HIDING, partition=PARTITION)

    @settings(max_examples=100, deadline=None)
    @given(st.binary(min_size=1, max_size=100), st.sampled_from(CODECS[1:]), st.booleans())
    def test_noise_is_refused(self, noise, codec, is_compressed):
        records = compression.compress(codec, noise) if is_compressed else noise
        with pytest.raises((InvalidRecord, CorruptBatch)):
            sealed_bytes(Batch(records, 1, attributes=codec).encode())

    @pytest.mark.parametrize("base", [2**63 - 1, -(2**63)])
    def test_timestamps_out_of_range(self, base):
        delta = 1 if base > 0 else -1
        with pytest.raises(InvalidRecord, match="timestamp"):
            sealed_bytes(client_batch([Plain(b"k", b"v", delta)], base_timestamp=base))

    def test_records_behind_the_log_append_time_bit(self):
        client = Batch(reference.record(0, b"k", b"v"), 1, attributes=8, max_timestamp=5).encode()
        assert contents(opened(sealed_bytes(client))) == contents(client)


class TestLimits:
    def test_what_decompresses_beyond_the_limit(self, monkeypatch):
        client = client_batch([Plain(b"k", bytes(100_000))], compression.ZSTD)
        monkeypatch.setattr(record_module, "MAX_DECOMPRESSED", 99_999)
        with pytest.raises(BatchTooLarge, match="above the limit") as caught:
            sealed_bytes(client)
        assert caught.value.code == 10

    def test_a_bomb_at_either_end(self, monkeypatch):
        bomb = Batch(compression.compress(compression.ZSTD, bytes(1 << 20)), 1, attributes=4).encode()
        seen = []
        decompress = compression.decompress
        for module in (record_module, sealed_records):
            monkeypatch.setattr(
                module.compression,
                "decompress",
                lambda codec, data, limit: seen.append(limit) or decompress(codec, data, 1 << 16),
            )
        with pytest.raises(BatchTooLarge):
            sealed_bytes(bomb)
        with pytest.raises(Unopenable, match=Reason.OUTER_CODEC):
            peeked(bomb)
        assert seen == [256 << 20] * 2

    @pytest.mark.parametrize("value", [b"", b"v" * 99, None])
    @pytest.mark.parametrize("hiding", [HIDING, None])
    def test_nothing_is_sealed_that_a_reader_would_find_too_large(self, monkeypatch, value, hiding):
        client = client_batch([Plain(None, value)] * 50, compression.ZSTD)
        stored = sealed_bytes(client, hiding=hiding)
        monkeypatch.setattr(record_module, "MAX_DECOMPRESSED", len(stored) - 61 - 1)
        with pytest.raises(BatchTooLarge, match="one sealed batch"):
            sealed_bytes(client, hiding=hiding)

    def test_a_record_above_the_limit_of_one_envelope(self, monkeypatch):
        largest = client_batch([Plain(None, bytes(500 - 18))])
        monkeypatch.setattr(record_module, "MAX_PLAINTEXT", 500)
        assert contents(opened(sealed_bytes(largest))) == contents(largest)
        with pytest.raises(BatchTooLarge, match="one envelope"):
            sealed_bytes(client_batch([Plain(None, bytes(501 - 18))]))

    def test_a_reader_holds_the_same_limit(self, monkeypatch):
        stored = sealed_bytes(client_batch([Plain(None, bytes(500))]))
        monkeypatch.setattr(sealed_records, "MAX_PLAINTEXT", 500)
        with pytest.raises(Unopenable, match="length"):
            peeked(stored)
