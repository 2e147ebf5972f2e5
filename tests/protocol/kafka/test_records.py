"""Records read and written, against a slow twin, the reference writer and another library's codec."""

import pytest
from aiokafka.record.default_records import DefaultRecordBatch
from hypothesis import given, settings
from hypothesis import strategies as st

from kveil.protocol.kafka.errors import InvalidRecord
from kveil.protocol.kafka.records import (
    NO_HEADERS,
    read_headers,
    read_records,
    write_headers,
    write_record,
    write_record_header,
)
from tests.vectors import reference
from tests.vectors.reference import Batch, varint


def slow_varint(data, pos, bits):
    """The varint at `pos`, a step at a time."""
    value = 0
    for group in range(5 if bits == 32 else 10):
        byte = data[pos + group]
        value += (byte % 128) << (7 * group)
        if byte < 128:
            if value >= 1 << bits:
                raise InvalidRecord
            return (value // 2 if value % 2 == 0 else -(value + 1) // 2), pos + group + 1
    raise InvalidRecord


def slow_part(data, pos, *, nullable=True):
    length, pos = slow_varint(data, pos, 32)
    if length < (-1 if nullable else 0) or pos + length > len(data):
        raise InvalidRecord
    return (None, pos) if length == -1 else (data[pos : pos + length], pos + length)


def slow_record(body):
    delta, pos = slow_varint(body, 1, 64)
    offset, pos = slow_varint(body, pos, 32)
    key, pos = slow_part(body, pos)
    value, pos = slow_part(body, pos)
    start = pos
    count, pos = slow_varint(body, pos, 32)
    if count < 0 or not -(2**62) < delta < 2**62:
        raise InvalidRecord
    for _ in range(count):
        _, pos = slow_part(body, pos, nullable=False)
        _, pos = slow_part(body, pos)
    if pos != len(body):
        raise InvalidRecord
    return delta, offset, key, value, body[start:]


def slow_records(data, count, last):
    found, pos = [], 0
    try:
        for _ in range(count):
            body, pos = slow_part(data, pos, nullable=False)
            found.append(slow_record(body))
    except IndexError:
        raise InvalidRecord from None
    offsets = [-1, *(record[1] for record in found)]
    if pos != len(data) or offsets != sorted(set(offsets)) or offsets[-1] > last:
        raise InvalidRecord
    return found


def result_of(read, data, count, last):
    try:
        return list(read(data, count, last))
    except InvalidRecord:
        return "refused"


LENGTHS = [0, 1, 63, 64, 65, 8191, 8192, 8193]
parts = st.none() | st.binary(max_size=80) | st.sampled_from(LENGTHS).map(bytes)
header_lists = st.lists(st.tuples(st.text(max_size=70), st.none() | st.binary(max_size=70)), max_size=3)
deltas = st.sampled_from([0, 1, -1, 63, 64, -64, -65, 8191, 8192, 2**31, 2**62 - 1, 1 - 2**62]) | st.integers(-9, 9999)
offset_lists = st.sets(st.integers(0, 200) | st.sampled_from([8191, 8192, 2**31 - 1]), min_size=1, max_size=6).map(
    sorted
)


def encoded(headers):
    return varint(len(headers)) + b"".join(
        varint(len(name.encode())) + name.encode() + (varint(-1) if value is None else varint(len(value)) + value)
        for name, value in headers
    )


@st.composite
def record_lists(draw):
    return [
        (draw(deltas), offset, draw(parts), draw(parts), encoded(draw(header_lists))) for offset in draw(offset_lists)
    ]


def section_of(records):
    return b"".join(reference.record(o, key, value, delta, headers) for delta, o, key, value, headers in records)


class TestBothWays:
    @settings(max_examples=200, deadline=None)
    @given(record_lists())
    def test_records_come_back(self, records):
        section = b"".join(b"".join(write_record(*record)) for record in records)
        assert section == section_of(records)
        last = records[-1][1]
        assert list(read_records(section, len(records), last)) == records == slow_records(section, len(records), last)

    @settings(max_examples=100, deadline=None)
    @given(record_lists(), st.integers(0, 2**40))
    def test_another_codec_reads_the_same(self, records, base):
        section = section_of(records)
        batch = Batch(section, len(records), base_timestamp=base, base_offset=7, last_offset_delta=records[-1][1])
        theirs = list(DefaultRecordBatch(batch.encode()))
        ours = list(read_records(section, len(records), records[-1][1]))
        assert [(r.timestamp - base, r.offset - 7, r.key, r.value) for r in theirs] == [record[:4] for record in ours]
        for their, (*_, headers) in zip(theirs, ours, strict=True):
            found, _ = read_headers(headers)
            assert [(name.decode(), value) for name, value, _ in found] == list(their.headers)

    @given(header_lists)
    def test_headers_come_back(self, headers):
        data = b"front" + encoded(headers) + b"behind"
        found, end = read_headers(data, 5)
        assert data[end:] == b"behind"
        assert [(name.decode(), value) for name, value, _ in found] == headers
        assert write_headers([raw for _, _, raw in found]) == encoded(headers)
        assert write_headers([]) == NO_HEADERS

    def test_one_header(self):
        assert write_record_header(b"kveil", bytes(300)) == encoded([("kveil", bytes(300))])[1:]


class TestMalformed:
    @settings(max_examples=400, deadline=None)
    @given(record_lists(), st.data())
    def test_a_changed_section_is_read_as_the_twin_reads_it(self, records, data):
        section = bytearray(section_of(records))
        for _ in range(data.draw(st.integers(1, 3))):
            at = data.draw(st.integers(0, min(len(section) - 1, 40)))
            section[at] = data.draw(st.integers(0, 255))
        count = len(records) + data.draw(st.sampled_from([0, 0, 0, 1, -1]))
        given_ = bytes(section), count, records[-1][1]
        assert result_of(read_records, *given_) == result_of(slow_records, *given_)

    @settings(max_examples=200, deadline=None)
    @given(st.binary(max_size=60), st.integers(1, 5))
    def test_noise_is_read_as_the_twin_reads_it(self, noise, count):
        assert result_of(read_records, noise, count, 9) == result_of(slow_records, noise, count, 9)

    def test_cut_anywhere(self):
        headers = encoded([("a", b"1"), ("b", None)])
        section = b"".join(reference.record(i, b"k" * 70, b"v" * 9000, 70 * i, headers) for i in range(2))
        for end in [*range(200), *range(len(section) - 50, len(section))]:
            with pytest.raises(InvalidRecord):
                list(read_records(section[:end], 2, 1))

    @pytest.mark.parametrize("count", [0, 1, 3])
    def test_another_count(self, count):
        with pytest.raises(InvalidRecord):
            list(read_records(reference.client_records(2), count, 9))

    @pytest.mark.parametrize("offsets", [(0, 0), (1, 0), (-1, 0), (0, 2), (0, 3)])
    def test_offsets_that_no_producer_writes(self, offsets):
        section = b"".join(reference.record(offset, None, b"v") for offset in offsets)
        with pytest.raises(InvalidRecord, match="offset"):
            list(read_records(section, 2, 1))

    def test_holes_are_the_log_cleaners(self):
        section = b"".join(reference.record(offset, None, b"v") for offset in (3, 7, 300))
        assert [record[1] for record in read_records(section, 3, 300)] == [3, 7, 300]
        with pytest.raises(InvalidRecord, match="offset"):
            list(read_records(section, 3, 299))

    @pytest.mark.parametrize("delta", [2**62, -(2**62), 2**63 - 1, -(2**63)])
    def test_timestamps_too_far_apart(self, delta):
        with pytest.raises(InvalidRecord, match="timestamp"):
            list(read_records(reference.record(0, None, b"v", delta), 1, 0))

    @pytest.mark.parametrize("length", [-2, -100, -(2**31), 2**31 - 1])
    @pytest.mark.parametrize("of", ["key", "value", "header name", "header value", "headers"])
    def test_lengths_out_of_range(self, of, length):
        before = {
            "key": b"\0\0\0",
            "value": b"\0\0\0\1",
            "headers": b"\0\0\0\1\1",
            "header name": b"\0\0\0\1\1\2",
            "header value": b"\0\0\0\1\1\2\2k",
        }[of]
        body = before + varint(length) + bytes(12)
        with pytest.raises(InvalidRecord):
            list(read_records(varint(len(body)) + body, 1, 0))

    def test_a_header_without_a_name(self):
        body = b"\0\0\0\1\1\2\1\1"
        with pytest.raises(InvalidRecord):
            list(read_records(varint(len(body)) + body, 1, 0))

    def test_headers_cut(self):
        data = encoded([("name", b"value")])
        for end in range(len(data)):
            with pytest.raises(InvalidRecord):
                read_headers(data[:end])

    def test_attributes_mean_nothing(self):
        section = bytearray(reference.record(0, b"k", b"v"))
        section[1] = 0xFF
        assert list(read_records(bytes(section), 1, 0)) == [(0, 0, b"k", b"v", NO_HEADERS)]
