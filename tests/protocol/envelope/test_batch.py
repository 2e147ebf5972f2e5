"""seal, peek and unseal against each other, against the reference writer, and against what brokers do."""

import os
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kveil.protocol.envelope import batch as batch_module
from kveil.protocol.envelope import sealed_batch
from kveil.protocol.envelope.batch import StubCodec, peek, seal, unseal
from kveil.protocol.envelope.errors import NotSealed, Reason, Unopenable
from kveil.protocol.envelope.header import KeyBlock
from kveil.protocol.envelope.key_schedule import EpochKey
from kveil.protocol.envelope.stubs import raw_frame_blocks
from kveil.protocol.kafka import compression
from kveil.protocol.kafka.errors import BatchTooLarge
from kveil.protocol.kafka.record_batch import BatchHeader, check_produced, read_header
from tests.vectors import reference
from tests.vectors.reference import Batch, Sealer, client_records

PARTITION = 3
SEALER = Sealer()
KEY = EpochKey(
    secret=SEALER.secret,
    realm=SEALER.realm,
    topic=SEALER.topic,
    kid=SEALER.made_kid(),
    block=KeyBlock(provider=1, name="main", mechanism=1, version="1", wrapped=SEALER.made_wrap()),
)
CODECS = range(5)


def client_batch(count, codec=0, size=None, **fields):
    records = client_records(count) if size is None else reference.record(0, None, os.urandom(size)) * count
    return Batch(compression.compress(codec, records), count, attributes=codec, **fields).encode()


def sealed_bytes(client, **options):
    view = memoryview(bytearray(client))
    return b"".join(seal(view, check_produced(view), key=KEY, partition=PARTITION, **options))


def opened(stored, partition=PARTITION, **options):
    view = memoryview(stored)
    return b"".join(unseal(peek(view, read_header(view)), key=KEY, partition=partition, **options))


def at_offset(client, offset):
    return offset.to_bytes(8, "big") + client[8:]


def broker_stores(stored, codec=None, **changes):
    """What a broker may make of a batch: another codec, other offsets and times, a new checksum."""
    header = read_header(stored)
    records = bytes(stored[61:])
    attributes = header.attributes
    if codec is not None:
        records = compression.compress(codec, compression.decompress(header.codec, records, 1 << 28))
        attributes = attributes & ~7 | codec
    fields = {
        "base_offset": header.base_offset,
        "leader_epoch": header.partition_leader_epoch,
        "base_timestamp": header.base_timestamp,
        "max_timestamp": header.max_timestamp,
        "producer_id": header.producer_id,
        "producer_epoch": header.producer_epoch,
        "base_sequence": header.base_sequence,
    } | changes
    extra = fields.pop("attributes", 0)
    return Batch(records, header.record_count, attributes=attributes | extra, **fields).encode()


idempotent = st.fixed_dictionaries(
    {
        "producer_id": st.integers(0, 2**63 - 1),
        "producer_epoch": st.integers(0, 2**15 - 1),
        "base_sequence": st.integers(0, 2**31 - 1),
    }
)
clients = st.builds(
    lambda count, codec, producer, max_timestamp: client_batch(count, codec, max_timestamp=max_timestamp, **producer),
    st.sampled_from([1, 2, 3, 15, 16, 17, 63, 64, 65, 127, 128, 129, 130, 255, 256, 400]),
    st.sampled_from(CODECS),
    st.just({}) | idempotent,
    st.integers(-1, 2**50),
)


class TestAgainstTheReference:
    @pytest.fixture
    def known_random(self, monkeypatch):
        monkeypatch.setattr(batch_module.os, "urandom", lambda size: (SEALER.salt + SEALER.record_key)[:size])

    @pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 127, 128, 129, 300])
    @pytest.mark.parametrize("transactional", [0, 0x10])
    def test_writes_the_same_bytes(self, known_random, count, transactional):
        client = Batch(
            client_records(count), count, attributes=transactional, producer_id=8, producer_epoch=1, base_sequence=2
        )
        expected = Sealer(client=client).seal()
        assert sealed_bytes(client.encode(), stub_codec=StubCodec.NONE) == expected
        auto = sealed_bytes(client.encode())
        assert read_header(auto).codec == (compression.ZSTD if count >= 16 else compression.NONE)
        assert compression.decompress(read_header(auto).codec, auto[61:], 1 << 20) == expected[61:]

    def test_takes_record_0_uncompressed(self, known_random):
        client = Batch(client_records(20), 20)
        two_part = Sealer(client=client, codec=reference.zstd_two_part).seal()
        first_frame = two_part[
            61 : 61 + len(reference.zstd_raw(bytes(reference.first_record_end(Sealer(client=client).seal()[61:]))))
        ]
        assert sealed_bytes(client.encode())[61:].startswith(first_frame)


class TestBothWays:
    @settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
    @given(clients, st.sampled_from(StubCodec), st.booleans(), st.booleans())
    def test_the_client_gets_its_own_bytes(self, client, stub_codec, compress, writable):
        stored = sealed_bytes(client, stub_codec=stub_codec, compress=compress)
        check_produced(memoryview(stored))  # what a broker would ask
        assert opened(bytearray(stored) if writable else stored) == client

    @pytest.mark.parametrize("codec", CODECS)
    def test_ten_thousand_records(self, codec):
        client = client_batch(10_000, codec)
        assert opened(sealed_bytes(client)) == client

    @pytest.mark.parametrize("size", [131_072 * n - off for n in (1, 2, 3) for off in range(250, 262)])
    def test_around_the_ends_of_zstd_blocks(self, size):
        client = Batch(bytes(size), 16, attributes=1).encode()
        stored = sealed_bytes(client)
        lengths = [end - start for start, end in raw_frame_blocks(memoryview(stored), 61)]
        assert set(lengths[:-1]) <= {131_072}
        assert 1 <= lengths[-1] <= 131_072
        assert len(compression.decompress(compression.ZSTD, stored[61:], 1 << 20)) > size
        assert opened(stored) == client
        assert opened(bytearray(stored)) == client

    @pytest.mark.parametrize("count", [1, 16])
    def test_large_batches(self, count):
        client = client_batch(count, size=1_500_000 // count)
        for stored in (sealed_bytes(client), sealed_bytes(client, stub_codec=StubCodec.NONE)):
            assert opened(stored) == client
            assert opened(bytearray(stored)) == client

    @settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
    @given(
        clients,
        st.sampled_from([None, *CODECS]),
        st.integers(0, 2**60),
        st.integers(-1, 2**31 - 1),
        st.none() | st.integers(0, 2**50),
        st.integers(-1, 2**50),
    )
    def test_a_broker_may_change_what_is_its_own(self, client, codec, offset, epoch, append_time, base_timestamp):
        changes = {"base_offset": offset, "leader_epoch": epoch, "base_timestamp": base_timestamp}
        expected = {"base_offset": offset, "leader_epoch": epoch}
        if append_time is not None:
            changes |= {"max_timestamp": append_time, "attributes": 8}
            expected |= {"max_timestamp": append_time, "attributes": 8}
        else:
            changes |= {"max_timestamp": 7}
        stored = broker_stores(sealed_bytes(client), codec, **changes)
        header = read_header(client)
        assert opened(bytearray(stored)) == broker_stores(client, base_timestamp=header.base_timestamp, **expected)

    def test_a_large_batch_of_any_codec(self):
        client = client_batch(20, size=40_000)
        for codec in CODECS:
            assert opened(broker_stores(sealed_bytes(client), codec)) == client

    def test_sealing_again_after_the_first_did_not_fit(self):
        client = client_batch(30)
        view = memoryview(bytearray(client))
        header = check_produced(view)
        first = b"".join(seal(view, header, key=KEY, partition=PARTITION))
        smaller = b"".join(seal(view, header, key=KEY, partition=PARTITION, compress=3))
        assert len(smaller) < len(first)
        assert opened(first) == opened(smaller) == client

    def test_unsealing_twice(self):
        client = client_batch(16, size=20_000)
        view = memoryview(bytearray(sealed_bytes(client)))
        sealed = peek(view, read_header(view))
        for _ in range(2):
            assert b"".join(unseal(sealed, key=KEY, partition=PARTITION)) == client

    def test_compression_that_does_not_pay_is_left(self):
        client = client_batch(1, size=200)
        assert len(sealed_bytes(client, compress=3)) == len(sealed_bytes(client))

    @pytest.mark.parametrize("codec", [1, 2, 3, 4])
    def test_the_clients_compression_is_left_alone(self, codec):
        client = client_batch(40, codec)
        assert len(sealed_bytes(client, compress=3)) == len(sealed_bytes(client))
        assert opened(sealed_bytes(client, compress=3)) == client


class TestOriginPartition:
    def test_any_partition_reads_what_names_its_own(self):
        client = client_batch(3)
        stored = sealed_bytes(client, origin_partition=True)
        assert opened(stored) == opened(stored, 9, any_partition=True) == client
        with pytest.raises(Unopenable, match="origin partition"):
            opened(stored, 9)

    def test_none_named(self):
        with pytest.raises(Unopenable, match="commitment"):
            opened(sealed_bytes(client_batch(3)), 9, any_partition=True)


class TestACompactedTopic:
    """A topic that was switched to compaction: the log cleaner removes the stubs, whose key is null."""

    @pytest.mark.parametrize("count", [1, 2, 20, 300])
    @pytest.mark.parametrize("codec", CODECS)
    def test_record_0_alone_opens(self, count, codec):
        client = client_batch(count)
        stored = sealed_bytes(client, stub_codec=StubCodec.NONE)
        first = stored[61 : 61 + reference.first_record_end(stored[61:])]
        fields = {"attributes": codec, "last_offset_delta": count - 1, "base_offset": 70}
        cleaned = Batch(compression.compress(codec, first), 1, **fields).encode()
        assert opened(cleaned) == at_offset(client, 70)

    def test_stubs_alone_do_not(self):
        stored = sealed_bytes(client_batch(3), stub_codec=StubCodec.NONE)
        stubs = stored[61 + reference.first_record_end(stored[61:]) :]
        with pytest.raises(NotSealed):
            opened(Batch(stubs, 2, last_offset_delta=2).encode())


class TestSecrecy:
    def test_every_seal_differs(self):
        client = client_batch(3)
        first, second = sealed_bytes(client), sealed_bytes(client)
        salts = {data[data.index(b"\xc5KV") + 24 :][:24] for data in (first, second)}
        keys = {data[61:].split(b"\xc5KV")[0][6:22] for data in (first, second)}
        assert len(salts) == len(keys) == 2

    def test_nothing_of_the_records_is_in_the_stored_batch(self):
        stored = sealed_bytes(client_batch(200))
        for plain in (b"value", b"key-"):
            assert plain not in stored
            assert plain not in compression.decompress(4, stored[61:], 1 << 20)

    def test_only_the_listed_fields_stay_outside(self):
        fields = {"base_timestamp": 1000, "max_timestamp": 2000, "base_offset": 9, "leader_epoch": 4}
        client = Batch(client_records(3), 3, attributes=0x08, **fields).encode()
        header = read_header(sealed_bytes(client))
        assert header == BatchHeader(
            base_offset=0,
            batch_length=header.batch_length,
            partition_leader_epoch=4,
            magic=2,
            crc=header.crc,
            attributes=0,
            last_offset_delta=2,
            base_timestamp=2000,
            max_timestamp=2000,
            producer_id=-1,
            producer_epoch=-1,
            base_sequence=-1,
            record_count=3,
        )


class TestTampering:
    @pytest.mark.parametrize("count", [3, 20])
    def test_no_flipped_byte_opens_to_anything_else(self, count):
        client = client_batch(count, producer_id=5, producer_epoch=0, base_sequence=7)
        stored = sealed_bytes(client)
        rng = random.Random(1)
        refused = 0
        # Up to the end of record 0; stubs behind it mean nothing, and the header's open fields are the
        # broker's.
        for at in range(61, 61 + 600):
            if at >= len(stored):
                break
            bad = bytearray(stored)
            bad[at] ^= 1 << rng.randrange(8)
            try:
                found = opened(bad)
            except (NotSealed, Unopenable):
                refused += 1
            else:
                assert found == client
        assert refused > 300

    @pytest.mark.parametrize("at", range(61))
    def test_the_outer_header_changes_only_what_is_the_brokers(self, at):
        client = client_batch(3, producer_id=5, producer_epoch=0, base_sequence=7)
        expected = read_header(client)
        for bit in range(8):
            bad = bytearray(sealed_bytes(client))
            bad[at] ^= 1 << bit
            try:
                found = opened(bad)
            except (NotSealed, Unopenable):
                continue
            header = read_header(found)
            assert found[61:] == client[61:]
            for name in (
                "last_offset_delta",
                "base_timestamp",
                "producer_id",
                "producer_epoch",
                "base_sequence",
                "record_count",
                "magic",
                "codec",
                "is_transactional",
                "is_control",
            ):
                assert getattr(header, name) == getattr(expected, name)
            if not header.is_log_append_time:
                assert header.max_timestamp == expected.max_timestamp

    @settings(max_examples=60, deadline=None)
    @given(st.binary(max_size=200), st.sampled_from(CODECS), st.booleans())
    def test_noise_raises_nothing_else(self, noise, codec, in_value):
        if in_value:
            noise = reference.record(0, bytes(16), b"\xc5KV\x01\x01\x01" + noise)
        view = memoryview(Batch(noise, 1, attributes=codec).encode())
        with pytest.raises((NotSealed, Unopenable)):
            peek(view, read_header(view))

    def test_a_batch_at_another_partition(self):
        with pytest.raises(Unopenable, match="commitment"):
            opened(sealed_bytes(client_batch(3)), partition=4)


class TestPeek:
    def test_names_the_key_without_one(self):
        view = memoryview(sealed_bytes(client_batch(7)))
        sealed = peek(view, read_header(view))
        assert (sealed.kid, sealed.block, sealed.count, sealed.mode) == (KEY.kid, KEY.block, 7, 1)
        assert sealed.plaintext_length == 37 + len(client_records(7))

    @pytest.mark.parametrize("codec", CODECS)
    def test_a_plain_batch_is_not_sealed(self, codec):
        view = memoryview(client_batch(50, codec))
        with pytest.raises(NotSealed):
            peek(view, read_header(view))

    def test_a_plain_batch_whose_first_record_is_large(self):
        records = reference.record(0, bytes(300_000), bytes(300_000))
        for codec in CODECS:
            view = memoryview(Batch(compression.compress(codec, records), 1, attributes=codec).encode())
            with pytest.raises(NotSealed):
                peek(view, read_header(view))

    def test_our_own_form_needs_no_decompressor(self, monkeypatch):
        monkeypatch.setattr(sealed_batch.compression, "decompress_head", None)
        for count, size in ((16, None), (16, 30_000)):
            view = memoryview(sealed_bytes(client_batch(count, size=size)))
            assert peek(view, read_header(view)).count == count

    def test_the_end_of_a_batch_is_not_decompressed(self):
        client = client_batch(5000)
        stored = broker_stores(sealed_bytes(client, stub_codec=StubCodec.NONE), compression.ZSTD)
        bad = bytearray(stored)
        bad[-4:] = b"!!!!"
        assert opened(bad) == client

    def test_errors_carry_the_code_and_the_reason(self):
        view = memoryview(client_batch(1))
        with pytest.raises(NotSealed) as plain:
            peek(view, read_header(view))
        with pytest.raises(Unopenable) as bad:
            peek(view, read_header(Batch(b"", 0).encode()))
        assert plain.value.code == bad.value.code == 2
        assert bad.value.reason == Reason.BATCH == str(bad.value)


class TestLimits:
    def test_a_batch_above_the_limit_is_not_sealed(self, monkeypatch):
        monkeypatch.setattr(batch_module, "MAX_PLAINTEXT", 500)
        largest = Batch(bytes(500 - 37), 1, attributes=1).encode()
        assert opened(sealed_bytes(largest)) == largest
        with pytest.raises(BatchTooLarge) as caught:
            sealed_bytes(Batch(bytes(501 - 37), 1, attributes=1).encode())
        assert caught.value.code == 10

    def test_the_proxys_compression_is_undone_within_the_limit(self, monkeypatch):
        stored = sealed_bytes(client_batch(100), compress=3)
        assert opened(stored) == client_batch(100)
        monkeypatch.setattr(batch_module, "MAX_PLAINTEXT", len(client_batch(100)) - 61 - 1)
        with pytest.raises(Unopenable, match="inner compression"):
            opened(stored)
