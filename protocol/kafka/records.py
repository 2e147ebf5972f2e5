"""The records section of a RecordBatch v2, uncompressed (KIP-98; lengths are zigzag varints, -1 is null):

    length | attributes 1 | timestamp delta | offset delta | key length, key | value length, value |
    header count | for each header: name length, name, value length, value

A record here is a plain tuple, since making anything more of it takes longer than sealing it. For the same reason
`read_records` is one long loop: varints of up to two bytes are looked up on the spot.

Attributes of records have no meaning yet: they are passed over, and written as 0.
"""

from __future__ import annotations

from collections.abc import Iterator

from kveil.protocol.kafka.errors import CorruptBatch, InvalidRecord
from kveil.protocol.kafka.varint import VARINTS, ZIGZAG, read_varint, read_varlong

NO_HEADERS = b"\x00"

Record = tuple[int, int, bytes | None, bytes | None, bytes]
"""Timestamp delta, offset delta, key, value, headers with their count."""

Header = tuple[bytes, bytes | None, bytes]
"""Name, value, and both as they stood there."""

_ATTRIBUTES = b"\x00"
# From the base timestamp, in ms: so that the difference of any two timestamps is a varint of 64 bits again.
_TIME_SPAN = 2**62
_MALFORMED = "malformed record"


def read_records(  # noqa: C901, PLR0912, PLR0915 - a call for each field would take longer than the field
    section: bytes, count: int, last_offset_delta: int
) -> Iterator[Record]:
    """Exactly `count` records that fill `section`. Raises InvalidRecord at the first that isn't one.

    Offset deltas ascend up to `last_offset_delta`, with holes where a log cleaner has been. A producer's batch
    has none: its last delta is count - 1, so they can only be 0, 1, 2 and so on.
    """
    # Each field may reach beyond its record, and a slice beyond the section. Both show where the record should end: a
    # position only grows, and the header count is read behind all else.
    pos, previous = 0, -1
    zigzag = ZIGZAG
    try:
        for _ in range(count):
            byte = section[pos]
            pos += 1
            if byte < 0x80:
                length = zigzag[byte]
            elif (high := section[pos]) < 0x80:
                length = zigzag[high << 7 | byte & 0x7F]
                pos += 1
            else:
                length, pos = read_varint(section, pos - 1)
            end = pos + length
            byte = section[pos + 1]
            pos += 2
            if byte < 0x80:
                timestamp_delta = zigzag[byte]
            elif (high := section[pos]) < 0x80:
                timestamp_delta = zigzag[high << 7 | byte & 0x7F]
                pos += 1
            else:
                timestamp_delta, pos = read_varlong(section, pos - 1)
                if not -_TIME_SPAN < timestamp_delta < _TIME_SPAN:
                    raise InvalidRecord("timestamp of a record")
            byte = section[pos]
            pos += 1
            if byte < 0x80:
                offset_delta = zigzag[byte]
            elif (high := section[pos]) < 0x80:
                offset_delta = zigzag[high << 7 | byte & 0x7F]
                pos += 1
            else:
                offset_delta, pos = read_varint(section, pos - 1)
            if not previous < offset_delta <= last_offset_delta:
                raise InvalidRecord("offset of a record")
            previous = offset_delta
            byte = section[pos]
            pos += 1
            if byte < 0x80:
                length = zigzag[byte]
            else:
                length, pos = read_varint(section, pos - 1)
            key = None
            if length >= 0:
                key = section[pos : (pos := pos + length)]
            elif length != -1:
                raise InvalidRecord(_MALFORMED)
            byte = section[pos]
            pos += 1
            if byte < 0x80:
                length = zigzag[byte]
            elif (high := section[pos]) < 0x80:
                length = zigzag[high << 7 | byte & 0x7F]
                pos += 1
            else:
                length, pos = read_varint(section, pos - 1)
            value = None
            if length >= 0:
                value = section[pos : (pos := pos + length)]
            elif length != -1:
                raise InvalidRecord(_MALFORMED)
            headers = NO_HEADERS
            if section[pos] == 0:
                pos += 1
            else:
                start = pos
                _, pos = read_headers(section, pos)
                headers = section[start:pos]
            if pos != end:
                raise InvalidRecord(_MALFORMED)
            yield timestamp_delta, offset_delta, key, value, headers
    except (IndexError, CorruptBatch):
        raise InvalidRecord(_MALFORMED) from None
    if pos != len(section):
        raise InvalidRecord("bytes behind the last record")


def split_records(section: bytes) -> Iterator[bytes]:
    """The records of a section that was read before, each with its length."""
    pos = 0
    while pos < len(section):
        length, start = read_varint(section, pos)
        yield section[pos : start + length]
        pos = start + length


def read_headers(data: bytes, pos: int = 0) -> tuple[list[Header], int]:
    """The headers whose count stands at `pos`, and the position after them. Raises InvalidRecord."""
    headers: list[Header] = []
    try:
        count, pos = read_varint(data, pos)
        if count < 0:
            raise InvalidRecord(_MALFORMED)
        for _ in range(count):
            start = pos
            length, pos = read_varint(data, pos)
            if length < 0:
                raise InvalidRecord(_MALFORMED)
            name = data[pos : (pos := pos + length)]
            length, pos = read_varint(data, pos)
            value = None
            if length >= 0:
                value = data[pos : (pos := pos + length)]
            elif length != -1:
                raise InvalidRecord(_MALFORMED)
            headers.append((name, value, data[start:pos]))
    except CorruptBatch:
        raise InvalidRecord(_MALFORMED) from None
    if pos > len(data):
        raise InvalidRecord(_MALFORMED)
    return headers, pos


def write_record(
    timestamp_delta: int,
    offset_delta: int,
    key: bytes | None,
    value: bytes | None,
    headers: bytes = NO_HEADERS,
) -> tuple[bytes, bytes]:
    """One record, as its length and the rest of it. `headers` with their count."""
    body = b"".join(
        (
            _ATTRIBUTES,
            VARINTS[timestamp_delta],
            VARINTS[offset_delta],
            VARINTS[-1 if key is None else len(key)],
            key or b"",
            VARINTS[-1 if value is None else len(value)],
            value or b"",
            headers,
        )
    )
    return VARINTS[len(body)], body


def write_headers(headers: list[bytes]) -> bytes:
    """Headers with their count, given each as `write_record_header` makes it or `read_headers` found it."""
    return b"".join((VARINTS[len(headers)], *headers))


def write_record_header(name: bytes, value: bytes) -> bytes:
    """One header."""
    return b"".join((VARINTS[len(name)], name, VARINTS[len(value)], value))
