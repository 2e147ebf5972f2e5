"""Zigzag varints, as records use them (Kafka's protocol guide, VARINT and VARLONG; KIP-98).

Seven bits a byte, least significant first, high bit set on all but the last. Zigzag maps 0, -1, 1, -2 to 0,
1, 2, 3.
"""

from __future__ import annotations

from itertools import chain
from typing import Final

from kveil.protocol.kafka.errors import CorruptBatch
from kveil.protocol.kafka.primitives import Buffer, write_uvarint

_VARINT_BYTES = 5
_VARLONG_BYTES = 10
_TWO_BYTES = 1 << 14

# What up to two bytes stand for, by their 14 bits. Whoever reads many records looks it up on the spot: a call for
# each of a record's five varints takes longer than all the rest of it.
ZIGZAG: Final[tuple[int, ...]] = tuple(
    chain.from_iterable(zip(range(_TWO_BYTES // 2), range(-1, -_TWO_BYTES // 2 - 1, -1), strict=True))
)


def write_varint(value: int) -> bytes:
    """`value` (signed, any size up to 64 bits) as a zigzag varint of 1 to 10 bytes."""
    return write_uvarint(value << 1 if value >= 0 else ((-value) << 1) - 1)


class _Written(dict[int, bytes]):
    """Varints as `write_varint` makes them; those of up to two bytes are kept."""

    def __missing__(self, value: int) -> bytes:
        made = write_varint(value)
        if len(made) <= 2:
            self[value] = made
        return made


VARINTS: Final = _Written()


def read_varint(buf: Buffer, pos: int) -> tuple[int, int]:
    """The 32-bit zigzag varint at `pos` and the position after it. Raises CorruptBatch if cut or too long."""
    if 0 <= pos < len(buf) and (byte := buf[pos]) < 0x80:  # most are one byte
        return (byte >> 1) ^ -(byte & 1), pos + 1
    return _read(buf, pos, _VARINT_BYTES, 32)


def read_varlong(buf: Buffer, pos: int) -> tuple[int, int]:
    """The 64-bit zigzag varint at `pos` and the position after it. Raises CorruptBatch if cut or too long."""
    return _read(buf, pos, _VARLONG_BYTES, 64)


def _read(buf: Buffer, pos: int, most: int, bits: int) -> tuple[int, int]:
    if pos < 0:
        raise CorruptBatch("varint before the start")
    raw = shift = 0
    for at in range(pos, min(pos + most, len(buf))):
        byte = buf[at]
        raw |= (byte & 0x7F) << shift
        if byte < 0x80:
            if raw >> bits:
                break
            return (raw >> 1) ^ -(raw & 1), at + 1
        shift += 7
    raise CorruptBatch("varint cut short or too long")
