"""Kafka's primitive types: the few that are read or written by hand.

Source: Kafka protocol guide, "Protocol Primitive Types"; KIP-482 for the compact ones.
"""

from collections.abc import Iterable

from kveil.protocol.kafka.errors import FrameError

Buffer = bytes | bytearray | memoryview

_UVARINT_BYTES = 5
"""A 32-bit number takes at most five groups of seven bits."""


def read_uvarint(buffer: Buffer, position: int) -> tuple[int, int]:
    """Return the unsigned varint at `position` and the position after it.

    :raises FrameError: it is longer than 32 bits need.
    :raises IndexError: the buffer ends inside it.
    """
    value = 0
    for group in range(_UVARINT_BYTES):
        byte = buffer[position + group]
        value |= (byte & 0x7F) << (7 * group)
        if byte < 0x80:
            return value, position + group + 1
    raise FrameError("an unsigned varint has more than five bytes")


def write_uvarint(value: int) -> bytes:
    """Return `value`, at least 0, as an unsigned varint."""
    if value < 0x80:
        return bytes((value,))
    if value < 0x4000:
        return bytes((value & 0x7F | 0x80, value >> 7))
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def write_string(value: str, *, compact: bool) -> bytes:
    """Return a STRING or COMPACT_STRING."""
    data = value.encode()
    length = write_uvarint(len(data) + 1) if compact else len(data).to_bytes(2, "big")
    return length + data


def write_bytes_length(length: int, *, compact: bool) -> bytes:
    """Return the length in front of BYTES, RECORDS or their compact forms."""
    return write_uvarint(length + 1) if compact else length.to_bytes(4, "big")


def write_array_length(count: int, *, compact: bool) -> bytes:
    """Return the count in front of an ARRAY or COMPACT_ARRAY."""
    return write_uvarint(count + 1) if compact else count.to_bytes(4, "big")


def write_tagged_fields(fields: Iterable[tuple[int, bytes]]) -> bytes:
    """Return a section of tagged fields, given as (tag, content) in ascending order (KIP-482)."""
    written = [write_uvarint(tag) + write_uvarint(len(content)) + content for tag, content in fields]
    return write_uvarint(len(written)) + b"".join(written)
