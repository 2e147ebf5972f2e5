"""Primitives against kio's readers and writers."""

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kio.serial import readers, writers

from kveil.protocol.kafka.errors import FrameError
from kveil.protocol.kafka.primitives import (
    read_uvarint,
    write_array_length,
    write_bytes_length,
    write_string,
    write_tagged_fields,
    write_uvarint,
)

EDGES = [0, 1, 127, 128, 129, 16_383, 16_384, 2**21 - 1, 2**21, 2**28 - 1, 2**28, 2**31 - 1, 2**32 - 1]


def by_kio(writer, value):
    buffer = io.BytesIO()
    writer(buffer, value)
    return buffer.getvalue()


class TestUvarint:
    @pytest.mark.parametrize("value", EDGES)
    def test_edges(self, value):
        written = write_uvarint(value)
        assert written == by_kio(writers.write_unsigned_varint, value)
        assert read_uvarint(b"??" + written + b"!", 2) == (value, 2 + len(written))
        for cut in range(len(written)):
            with pytest.raises(IndexError):
                read_uvarint(written[:cut], 0)

    @settings(max_examples=100, deadline=None)
    @given(st.integers(0, 2**32 - 1))
    def test_both_ways(self, value):
        assert read_uvarint(memoryview(write_uvarint(value)), 0) == (value, len(write_uvarint(value)))

    def test_too_long(self):
        with pytest.raises(FrameError):
            read_uvarint(b"\x80" * 5 + b"\x01", 0)


class TestWriting:
    @pytest.mark.parametrize("text", ["", "a", "größe", "x" * 126, "x" * 127, "x" * 300])
    def test_string(self, text):
        assert write_string(text, compact=True) == by_kio(writers.write_compact_string, text)
        assert write_string(text, compact=False) == by_kio(writers.write_legacy_string, text)

    @pytest.mark.parametrize("length", [0, 1, 126, 127, 128, 70_000])
    def test_lengths(self, length):
        data = bytes(length)
        compact = write_bytes_length(length, compact=True)
        assert compact + data == by_kio(writers.write_compact_string, data)
        assert write_bytes_length(length, compact=False) + data == by_kio(writers.write_legacy_bytes, data)
        assert readers.read_compact_string_as_bytes(compact + data, 0)[0] == data
        assert write_array_length(length, compact=True) == compact
        assert write_array_length(length, compact=False) == length.to_bytes(4, "big")

    def test_tagged_fields(self):
        assert write_tagged_fields([]) == b"\0"
        assert write_tagged_fields([(0, b"a"), (300, b"")]) == b"\x02" + b"\x00\x01a" + b"\xac\x02\x00"
