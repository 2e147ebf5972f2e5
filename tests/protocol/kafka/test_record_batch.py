"""RecordBatch v2: the header, splitting, and what may pass in either direction."""

import pytest
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from hypothesis import given
from hypothesis import strategies as st

from kveil.protocol.kafka import record_batch as rb
from kveil.protocol.kafka.errors import CorruptBatch, InvalidRecord
from tests.vectors.reference import Batch, client_records, record, u, varint


def batch(count=3, **fields):
    return Batch(client_records(count), count, **fields)


def checked(made):
    return rb.check_produced(memoryview(made.encode()))


class TestHeader:
    def test_reads_every_field_where_it_stands(self):
        made = batch(
            3,
            base_offset=1,
            leader_epoch=2,
            attributes=0x1C,
            base_timestamp=5,
            max_timestamp=6,
            producer_id=7,
            producer_epoch=8,
            base_sequence=9,
        ).encode()
        header = rb.read_header(b"xy" + made, 2)
        assert header._asdict() == {
            "base_offset": 1,
            "batch_length": len(made) - 12,
            "partition_leader_epoch": 2,
            "magic": 2,
            "crc": int.from_bytes(made[17:21], "big"),
            "attributes": 0x1C,
            "last_offset_delta": 2,
            "base_timestamp": 5,
            "max_timestamp": 6,
            "producer_id": 7,
            "producer_epoch": 8,
            "base_sequence": 9,
            "record_count": 3,
        }
        assert (header.codec, header.is_transactional, header.is_control, header.is_log_append_time) == (
            4,
            True,
            False,
            True,
        )
        assert (header.last_offset, header.next_offset) == (3, 4)

    def test_control_bit(self):
        header = rb.read_header(batch(attributes=0x20).encode())
        assert (header.codec, header.is_transactional, header.is_control, header.is_log_append_time) == (
            0,
            False,
            True,
            False,
        )

    def test_needs_61_bytes(self):
        with pytest.raises(CorruptBatch):
            rb.read_header(bytes(60))

    def test_is_frozen(self):
        with pytest.raises(AttributeError):
            rb.read_header(batch().encode()).crc = 0

    @given(st.lists(st.binary(max_size=200), max_size=4), st.integers(0, 2**62), st.integers(-1, 2**31 - 1))
    def test_write_is_the_reference_whatever_the_pieces(self, pieces, offset, epoch):
        made = rb.write_header(
            records=[*pieces],
            base_offset=offset,
            partition_leader_epoch=epoch,
            attributes=0x10,
            last_offset_delta=4,
            base_timestamp=-1,
            max_timestamp=77,
            producer_id=2**40,
            producer_epoch=32767,
            base_sequence=2**31 - 1,
            record_count=5,
        )
        records = b"".join(pieces)
        expected = Batch(
            records,
            5,
            base_offset=offset,
            leader_epoch=epoch,
            attributes=0x10,
            base_timestamp=-1,
            max_timestamp=77,
            producer_id=2**40,
            producer_epoch=32767,
            base_sequence=2**31 - 1,
        )
        assert made + records == expected.encode()

    def test_reads_what_aiokafka_builds(self):
        builder = DefaultRecordBatchBuilder(
            magic=2,
            compression_type=0,
            is_transactional=1,
            producer_id=9,
            producer_epoch=1,
            base_sequence=4,
            batch_size=10_000,
        )
        for index in range(5):
            builder.append(index, timestamp=1000 + index, key=b"k", value=b"v", headers=[("h", b"1")])
        header = rb.check_produced(memoryview(bytes(builder.build())))
        assert (header.producer_id, header.producer_epoch, header.base_sequence) == (9, 1, 4)
        assert (header.record_count, header.base_timestamp, header.max_timestamp) == (5, 1000, 1004)


class TestSplit:
    parts = (batch(1).encode(), batch(2, base_offset=1).encode(), batch(3, base_offset=3).encode())

    def test_at_every_byte_gives_the_whole_batches_only(self):
        whole = b"".join(self.parts)
        borders = [len(self.parts[0]), len(b"".join(self.parts[:2])), len(whole)]
        for end in range(len(whole) + 1):
            found = [bytes(view) for view in rb.split_batches(whole[:end])]
            assert found == list(self.parts[: sum(border <= end for border in borders)])

    def test_gives_views_of_the_data(self):
        data = bytearray(b"".join(self.parts))
        first = next(rb.split_batches(memoryview(data)))
        first[0] = 0x7F
        assert data[0] == 0x7F

    @pytest.mark.parametrize("magic", [0, 1])
    def test_gives_old_messages_for_the_caller_to_refuse(self, magic):
        message = u(5, 8) + u(14 + 8 * magic, 4) + u(0, 4) + u(magic, 1) + u(0, 1) + bytes(8 * magic) + u(-1, 4) * 2
        found = list(rb.split_batches(self.parts[0] + message + self.parts[1]))
        assert [bytes(view) for view in found] == [self.parts[0], message, self.parts[1]]
        assert found[1][16] == magic

    @pytest.mark.parametrize("length", [13, 0, -1, -(2**31)])
    def test_a_length_no_batch_can_have(self, length):
        splitting = rb.split_batches(self.parts[0] + Batch(b"", 0, length=length).encode())
        assert bytes(next(splitting)) == self.parts[0]
        with pytest.raises(CorruptBatch):
            next(splitting)

    @pytest.mark.parametrize("magic", [2, 3, 255])
    def test_magic_2_has_a_whole_header(self, magic):
        with pytest.raises(CorruptBatch):
            list(rb.split_batches(Batch(b"", 0, magic=magic, length=48).encode()))


class TestProduced:
    @pytest.mark.parametrize("codec", range(5))
    def test_any_codec(self, codec):
        assert checked(Batch(b"x" * 30, 3, attributes=codec)).codec == codec

    @pytest.mark.parametrize(
        "fields",
        [
            {"base_offset": 12},  # the broker assigns its own
            {"base_offset": -1},
            {"leader_epoch": 7},
            {"producer_epoch": 0, "base_sequence": 0},  # kafkajs and others, without a producer id
            {"attributes": 0x08},
            {"attributes": 0x10, "producer_id": 1, "producer_epoch": 0, "base_sequence": 0},
            {"producer_id": 1, "producer_epoch": 0, "base_sequence": 2**31 - 1},
            {"base_timestamp": -1, "max_timestamp": -1},
        ],
    )
    def test_passes_what_a_broker_takes(self, fields):
        assert checked(batch(**fields)).record_count == 3

    def test_smallest_records(self):
        records = b"".join(record(index, None, None) for index in range(60))
        assert len(records) == 60 * rb.SMALLEST_RECORD
        assert checked(Batch(records, 60)).record_count == 60

    @pytest.mark.parametrize(
        "fields",
        [
            {"crc": 0},
            {"length": 48},
            {"length": -1},
            {"length": 10_000},
        ],
    )
    def test_corrupt(self, fields):
        with pytest.raises(CorruptBatch) as caught:
            checked(batch(**fields))
        assert caught.value.code == 2

    @pytest.mark.parametrize("end", [1, 12, 16, 17, 60, 61, -1])
    def test_cut(self, end):
        with pytest.raises(CorruptBatch):
            rb.check_produced(memoryview(batch().encode()[:end]))

    def test_every_flipped_bit_behind_the_checksum(self):
        made = batch().encode()
        for at in range(17, len(made)):
            bad = bytearray(made)
            bad[at] ^= 0x40
            with pytest.raises(CorruptBatch):
                rb.check_produced(memoryview(bad))

    @pytest.mark.parametrize(
        "made",
        [
            batch(magic=0),
            batch(magic=1),
            batch(magic=3),
            batch(attributes=5),
            batch(attributes=7),
            batch(attributes=0x20),
            batch(attributes=0x40),
            batch(attributes=0x80),
            batch(attributes=0x8000),
            Batch(b"", 0),
            Batch(b"", -1),
            Batch(b"x" * 50, rb.MAX_RECORDS + 1, attributes=4),
            batch(last_offset_delta=3),
            batch(last_offset_delta=1),
            batch(last_offset_delta=-1),
            Batch(b"x" * 20, 3),
            batch(producer_id=-2),
            batch(producer_id=1),
            batch(producer_id=1, producer_epoch=0),
            batch(producer_id=1, base_sequence=0),
            batch(producer_id=1, producer_epoch=0, base_sequence=-2),
            batch(attributes=0x10),
        ],
    )
    def test_against_the_rules(self, made):
        with pytest.raises(InvalidRecord) as caught:
            checked(made)
        assert caught.value.code == 87

    def test_none_and_two(self):
        for data in (b"", batch().encode() * 2, batch().encode() + b"\x00"):
            with pytest.raises(InvalidRecord):
                rb.check_produced(memoryview(data))

    def test_as_many_records_as_may_be(self):
        assert checked(Batch(b"x" * 50, rb.MAX_RECORDS, attributes=4)).record_count == 2**20


class TestEmpty:
    def test_spans_its_offsets_and_passes_its_own_check(self):
        made = rb.empty_batch(100, 109, partition_leader_epoch=4, max_timestamp=55)
        header = rb.check_empty_batch(memoryview(made))
        assert (header.base_offset, header.last_offset, header.next_offset) == (100, 109, 110)
        assert (header.record_count, header.partition_leader_epoch, header.max_timestamp) == (0, 4, 55)
        assert (
            made
            == Batch(
                b"", 0, base_offset=100, last_offset_delta=9, leader_epoch=4, base_timestamp=-1, max_timestamp=55
            ).encode()
        )

    def test_another_reader_finds_no_record_and_a_good_checksum(self):
        found = DefaultRecordBatch(bytearray(rb.empty_batch(100, 109)))
        assert found.validate_crc()
        assert list(found) == []
        assert found.next_offset == 110

    @pytest.mark.parametrize(
        "made",
        [
            Batch(b"plain", 0),
            Batch(record(0, b"k", b"v"), 0),
            Batch(b"", 1),
            Batch(b"", -1),
            Batch(b"", 0, magic=1),
            Batch(b"", 0, length=50),
        ],
    )
    def test_refuses_record_bytes(self, made):
        with pytest.raises(CorruptBatch):
            rb.check_empty_batch(memoryview(made.encode()))


def marker(kind=0, key_version=0, version=0, **changes):
    """An end-of-transaction marker as a broker writes it."""
    key = changes.pop("key", u(key_version, 2) + u(kind, 2))
    value = changes.pop("value", u(version, 2) + u(3, 4))
    records = changes.pop("records", record(changes.pop("offset_delta", 0), key, value, **changes.pop("record", {})))
    fields = {"attributes": 0x30, "producer_id": 5, "producer_epoch": 1} | changes
    return Batch(records, fields.pop("count", 1), **fields).encode()


class TestControl:
    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"kind": 1},
            {"attributes": 0x38},
            {"attributes": 0x70, "base_timestamp": 99, "record": {"delta": -(2**40)}},  # after the log cleaner
            {"base_offset": 2**40, "leader_epoch": 6},
        ],
    )
    def test_passes_a_marker(self, changes):
        assert rb.check_control_batch(memoryview(marker(**changes))) is (changes.get("kind") == 1)

    @pytest.mark.parametrize(
        "changes",
        [
            {"attributes": 0x10},
            {"attributes": 0x34},
            {"magic": 1},
            {"count": 2},
            {"count": 0},
            {"last_offset_delta": 1},
            {"offset_delta": 1},
            {"kind": 2},
            {"kind": 6},
            {"kind": -1},
            {"key_version": 1},
            {"version": 1},
            {"version": -1},
            {"key": None},
            {"key": bytes(5)},
            {"key": bytes(3)},
            {"value": None},
            {"value": bytes(5)},
            {"value": bytes(7)},
            {"value": b"plain text"},
            {"record": {"headers": b"\x02\x02k\x02v"}},
            {"record": {"headers": b"\x02"}},
            {"records": varint(16) + bytes(3) + varint(4) + bytes(4) + varint(5) + bytes(7)},
            {"records": varint(16) + bytes(3) + varint(4) + bytes(4) + varint(-1) + bytes(7)},
            {"records": varint(16) + bytes(3) + varint(3) + bytes(4) + varint(6) + bytes(7)},
            {"records": record(0, bytes(4), bytes(6)) * 2},
            {"records": record(0, bytes(4), bytes(6)) + b"plain"},
            {"records": record(0, bytes(4), bytes(6))[:-1]},
            {"records": varint(0)},
            {"records": b""},
            {"length": 60},
        ],
    )
    def test_refuses_anything_else(self, changes):
        with pytest.raises(CorruptBatch):
            rb.check_control_batch(memoryview(marker(**changes)))

    @given(st.binary(max_size=30))
    def test_refuses_any_other_bytes_with_its_own_error(self, records):
        with pytest.raises(CorruptBatch):
            rb.check_control_batch(memoryview(marker(records=records)))
