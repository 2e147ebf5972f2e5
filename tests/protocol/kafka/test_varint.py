import pytest
from hypothesis import given
from hypothesis import strategies as st

from kveil.protocol.kafka.errors import CorruptBatch
from kveil.protocol.kafka.varint import VARINTS, ZIGZAG, read_varint, read_varlong, write_varint
from tests.vectors import reference


@given(st.integers(-(2**63), 2**63 - 1))
def test_writes_as_the_reference_and_reads_back(value):
    written = write_varint(value)
    assert written == reference.varint(value)
    assert read_varlong(b"\xff" + written + b"\xff", 1) == (value, 1 + len(written))


@given(st.integers(-(2**31), 2**31 - 1))
def test_reads_32_bits(value):
    written = write_varint(value)
    assert read_varint(memoryview(written), 0) == (value, len(written))


@given(st.integers(-(2**63), 2**63 - 1) | st.integers(-9000, 9000))
def test_the_table_writes_the_same(value):
    for _ in range(2):
        assert VARINTS[value] == write_varint(value)


def test_only_short_varints_are_kept():
    VARINTS[8192], VARINTS[-8193], VARINTS[8191], VARINTS[-8192]
    assert {8192, -8193}.isdisjoint(VARINTS)
    assert {8191, -8192} <= set(VARINTS)


def test_two_bytes_read_from_the_table():
    assert len(ZIGZAG) == 1 << 14
    for value in (0, -1, 1, 63, -64, 64, 8191, -8192):
        low, high = (write_varint(value) + b"\x00")[:2]
        assert ZIGZAG[high << 7 | low & 0x7F] == value


@pytest.mark.parametrize(
    ("data", "pos"),
    [
        (b"", 0),
        (b"\x80", 0),
        (b"\x00", 1),
        (b"\x00\x00", -1),
        (b"\x80\x80", -2),
        (b"\x80\x80\x80\x80\x80\x01", 0),  # six bytes
        (b"\xff\xff\xff\xff\x1f", 0),  # 33 bits
    ],
)
def test_refuses_what_is_cut_or_too_long(data, pos):
    with pytest.raises(CorruptBatch):
        read_varint(data, pos)


@pytest.mark.parametrize("data", [b"\x80" * 10, b"\x80" * 10 + b"\x01", b"\xff" * 9 + b"\x02"])
def test_refuses_a_varlong_above_64_bits(data):
    with pytest.raises(CorruptBatch):
        read_varlong(data, 0)
