"""The codecs of a records section: gzip, snappy, lz4 frame, zstd; decompression is bounded.

A broker chooses what a reader decompresses, and a kilobyte of zstd can claim gigabytes. So output goes into a
buffer whose size is decided here, before any of it exists: a codec that has more to say stops when the buffer
is full. Concatenated frames (zstd, lz4, gzip members) are one stream, as Kafka's own readers take them.

cramjam is imported here only. It has no incremental reader; `decompress_into` is one in effect, since it
streams into a buffer of fixed size, keeps what fits, and then says "failed to write whole buffer".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from struct import Struct
from typing import Final

import cramjam

from kveil.protocol.kafka.errors import CorruptBatch, DecompressedTooLarge
from kveil.protocol.kafka.primitives import Buffer

NONE: Final = 0
GZIP: Final = 1
SNAPPY: Final = 2
LZ4: Final = 3
ZSTD: Final = 4

ZSTD_LEVEL: Final = 3  # zstd's own default, as Kafka's
ZSTD_BEST_LEVEL: Final = 9  # for what must become small: some 30 MB/s; higher ones are much slower and gain little

# Above any honest batch: frames end at 100 MiB, and honest logs shrink 50-fold only in small batches.
MAX_DECOMPRESSED: Final = 256 * 1024 * 1024

_FULL = "failed to write whole buffer"
_FIRST_GUESS = 4  # honest records shrink about this much; a wrong guess doubles
_SMALLEST_BUFFER = 4096
# Snappy's densest element makes 64 bytes of 3 (its format description, "copy with 2-byte offset"); a length
# claimed beyond that is a lie, and found before memory is taken for it.
_SNAPPY_RATIO = 22

# The framing of snappy-java, which Kafka's clients write: magic, version 1, lowest readable version 1, then
# blocks of a length (4) and raw snappy.
_XERIAL_MAGIC = b"\x82SNAPPY\x00"
_XERIAL_HEADER = _XERIAL_MAGIC + b"\x00\x00\x00\x01\x00\x00\x00\x01"
_XERIAL_BLOCK = 32 * 1024
_I32 = Struct(">i")

_INTO: dict[int, Callable[[Buffer, bytearray], int]] = {
    GZIP: cramjam.gzip.decompress_into,
    LZ4: cramjam.lz4.decompress_into,
    ZSTD: cramjam.zstd.decompress_into,
}


def decompress(codec: int, data: Buffer, limit: int) -> memoryview:
    """All of `data` decompressed. Raises DecompressedTooLarge above `limit` bytes, CorruptBatch if it can't be."""
    if codec == SNAPPY:
        return memoryview(_decompress_snappy(data, limit + 1, limit))
    size = min(limit, max(_SMALLEST_BUFFER, _FIRST_GUESS * len(data)))
    while True:
        out, whole = _fill(codec, data, size)
        if whole:
            return out
        if size >= limit:
            raise DecompressedTooLarge("decompressed data above the limit")
        size = min(limit, size * 4)


def decompress_head(codec: int, data: Buffer, enough: int, limit: int = MAX_DECOMPRESSED) -> memoryview:
    """The first `enough` bytes of `data` decompressed, or fewer if there are no more; no further.

    Raises DecompressedTooLarge if `enough` is above `limit`, CorruptBatch if that part does not decode. Faults
    beyond it may go unseen. A block of snappy can't be left half-way: there memory goes up to the end of a block,
    within `limit`.
    """
    if enough > limit:
        raise DecompressedTooLarge("decompressed data above the limit")
    if codec == SNAPPY:
        return memoryview(_decompress_snappy(data, enough, limit))[:enough]
    return _fill(codec, data, enough)[0]


def compress(codec: int, data: Buffer, level: int = ZSTD_LEVEL) -> bytes:
    """`data` in the framing that Kafka's clients use for `codec`; `level` is for zstd only."""
    if codec == NONE:
        return bytes(data)
    if codec == GZIP:
        return bytes(cramjam.gzip.compress(data))
    if codec == SNAPPY:
        return b"".join(_xerial(memoryview(data)))
    if codec == LZ4:
        # Kafka reads no blocks that depend on earlier ones, which are this library's default.
        compressor = cramjam.lz4.Compressor(block_linked=False)
        compressor.compress(bytes(data))
        return bytes(compressor.finish())
    if codec == ZSTD:
        return bytes(cramjam.zstd.compress(data, level))
    raise ValueError(f"codec {codec}")


def _fill(codec: int, data: Buffer, size: int) -> tuple[memoryview, bool]:
    """Up to `size` bytes of output, and whether that was all of it."""
    if codec == NONE:
        return memoryview(data)[:size], len(data) <= size
    into = _INTO.get(codec)
    if into is None:
        raise CorruptBatch("unknown codec")
    out = bytearray(size)
    try:
        return memoryview(out)[: into(data, out)], True
    except cramjam.DecompressionError as error:
        if str(error) == _FULL:
            return memoryview(out), False
        raise CorruptBatch("data does not decompress") from error


def _decompress_snappy(data: Buffer, enough: int, limit: int) -> bytearray:
    """Whole blocks until there are `enough` bytes. A block says its length before it is decompressed."""
    out = bytearray()
    for block in _snappy_blocks(memoryview(data)):
        try:
            length = cramjam.snappy.decompress_raw_len(block)
            if length > _SNAPPY_RATIO * len(block):
                raise CorruptBatch("data claims to be more than it can be")
            if len(out) + length > limit:
                raise DecompressedTooLarge("decompressed data above the limit")
            out += memoryview(cramjam.snappy.decompress_raw(block))
        except cramjam.DecompressionError as error:
            raise CorruptBatch("data does not decompress") from error
        if len(out) >= enough:
            break
    return out


def _snappy_blocks(data: memoryview) -> Iterator[memoryview]:
    """The raw blocks inside snappy-java's framing, or all of `data` if it isn't framed (librdkafka)."""
    if data[: len(_XERIAL_MAGIC)] != _XERIAL_MAGIC:
        yield data
        return
    pos, end = len(_XERIAL_HEADER), len(data)
    while pos < end:
        if end - pos < _I32.size:
            raise CorruptBatch("data does not decompress")
        (length,) = _I32.unpack_from(data, pos)
        pos += _I32.size
        if not 0 < length <= end - pos:
            raise CorruptBatch("data does not decompress")
        yield data[pos : pos + length]
        pos += length


def _xerial(data: memoryview) -> Iterator[bytes]:
    yield _XERIAL_HEADER
    for start in range(0, len(data), _XERIAL_BLOCK):
        block = bytes(cramjam.snappy.compress_raw(data[start : start + _XERIAL_BLOCK]))
        yield _I32.pack(len(block))
        yield block
