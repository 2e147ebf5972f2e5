"""The stubs that stand for records 1..N-1, and the raw zstd frame that carries record 0 (FORMAT.md, section
5).

A stub depends on its index alone: null key, null value, timestamp delta 0. So stubs and their compressed form
are made once, and a batch takes slices of them.

A raw zstd frame (RFC 8878, sections 3.1.1.1 and 3.1.1.2) holds its content as it is, in blocks of at most 128
KiB with 3 bytes before each: ciphertext never goes through a compressor, and comes out again without a
decompressor.
"""

from __future__ import annotations

from enum import Enum
from functools import lru_cache

from kveil.protocol.kafka import compression
from kveil.protocol.kafka.primitives import Buffer
from kveil.protocol.kafka.record_batch import MAX_RECORDS
from kveil.protocol.kafka.varint import write_varint

# Below this the frames' own bytes outweigh what they save.
SMALLEST_COMPRESSED = 16

_LONG_RUN = 1024  # stubs in one frame, 0.9 bytes each; longer runs gain little
_SHORT_RUN = 128  # of what is left: 1.4 bytes each
_STUB_LEVEL = 9  # 0.03 ms for a short run, 0.2 for a long one; higher levels take ten times that for nothing
_CACHED_FRAMES = 4096  # about 150 bytes each

_MAX_BLOCK = 128 * 1024
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_RAW_FRAME = _ZSTD_MAGIC + b"\x00\x38"  # no sizes, no checksum; a window of 128 KiB
_LAST_BLOCK = 1
_FCS_LENGTHS = (0, 2, 4, 8)


class StubCodec(Enum):
    """How the outer batch is compressed."""

    AUTO = "auto"  # zstd in two parts where it pays
    NONE = "none"  # for Produce below version 7 and brokers without zstd


class _Table:
    """Stubs 1, 2, ... in a row, and their long runs, compressed, in a row; both grow as larger batches come by."""

    def __init__(self) -> None:
        self.plain = bytearray()
        self.next_index = 1
        self.frames = bytearray()
        self.frame_ends = [0]

    def reserve(self, count: int) -> None:
        """Makes stubs up to index count-1."""
        if not 1 <= count <= MAX_RECORDS:
            raise ValueError(f"{count} records")
        if self.next_index >= count:
            return
        end = min(MAX_RECORDS, max(count, 2 * self.next_index))  # doubling: few copies, however counts creep up
        grown = bytearray(self.plain)  # views of the old one stay good
        for index in range(self.next_index, end):
            grown += _stub(index)
        self.plain, self.next_index = grown, end

    def reserve_frames(self, runs: int) -> None:
        """Makes the first `runs` compressed frames."""
        if len(self.frame_ends) > runs:
            return
        self.reserve(runs * _LONG_RUN)
        grown = bytearray(self.frames)
        for run in range(len(self.frame_ends) - 1, runs):
            grown += _compress_stubs(self.plain, run * _LONG_RUN, (run + 1) * _LONG_RUN)
            self.frame_ends.append(len(grown))
        self.frames = grown


def _stub(index: int) -> bytes:
    """One stub: length, attributes 0, timestamp delta 0, offset delta, null key, null value, no headers."""
    delta = write_varint(index)
    return b"%c\x00\x00%b\x01\x01\x00" % ((5 + len(delta)) << 1, delta)


def _position(index: int) -> int:
    """Where stub `index` begins in the row that starts with stub 1. Offset deltas take 1, 2, then 3 bytes."""
    return 7 * (index - 1) + max(0, index - 64) + max(0, index - 8192)


def _compress_stubs(plain: bytearray, first: int, end: int) -> bytes:
    """Stubs first..end-1 as one frame, raw where that is smaller."""
    with memoryview(plain)[_position(max(first, 1)) : _position(end)] as stubs:
        packed = compression.compress(compression.ZSTD, stubs, _STUB_LEVEL)
        raw = _RAW_FRAME + _block_header(len(stubs), last=True) + bytes(stubs)
    return min(packed, raw, key=len)


_table = _Table()


@lru_cache(maxsize=_CACHED_FRAMES)
def _frame(first: int, end: int) -> bytes:
    return _compress_stubs(_table.plain, first, end)


def plain_stubs(count: int) -> memoryview:
    """Stubs 1..count-1 of a batch of `count` records, uncompressed: 7 to 9 bytes each."""
    _table.reserve(count)
    return memoryview(_table.plain)[: _position(count)]


def stub_frames(count: int) -> list[Buffer]:
    """Stubs 1..count-1 as zstd frames: long runs, short runs, the rest."""
    _table.reserve(count)
    runs = count // _LONG_RUN
    _table.reserve_frames(runs)
    frames: list[Buffer] = [memoryview(_table.frames)[: _table.frame_ends[runs]]] if runs else []
    first = runs * _LONG_RUN
    while first + _SHORT_RUN <= count:
        frames.append(_frame(first, first + _SHORT_RUN))
        first += _SHORT_RUN
    if max(first, 1) < count:
        frames.append(_frame(first, count))
    return frames


def _block_header(length: int, *, last: bool) -> bytes:
    """Block_Header of a Raw_Block: last 1 bit, type 2 bits (0), size 21 bits; little-endian."""
    return (length << 3 | last).to_bytes(3, "little")


def raw_frame(head: bytes, body: memoryview, tail: bytes) -> tuple[bytes, list[Buffer]]:
    """One raw zstd frame with head + body + tail as its content: (what comes first, the buffers after it).

    `head` is copied, being short, and `body` is only sliced. `head` and `tail` together must fit one block.
    """
    total = len(head) + len(body) + len(tail)
    size = total if total <= _MAX_BLOCK else min(len(head) + len(body), _MAX_BLOCK)  # the tail stays whole
    start = _RAW_FRAME + _block_header(size, last=size == total) + head
    if size == total:
        return start, [body, tail]
    pos = size - len(head)
    pieces: list[Buffer] = [body[:pos]]
    left = len(body) - pos
    while left + len(tail) > _MAX_BLOCK:
        size = min(left, _MAX_BLOCK)
        pieces += (_block_header(size, last=False), body[pos : pos + size])
        pos += size
        left -= size
    pieces += (_block_header(left + len(tail), last=True), body[pos:], tail)
    return start, pieces


def raw_frame_blocks(data: memoryview, pos: int) -> list[tuple[int, int]] | None:
    """Where the content of a frame of raw blocks that begins at `pos` lies in `data`: (start, end) of each
    block.

    None if the frame is anything else or does not hold together: then the data takes the way through a
    decompressor, which also finds the faults.
    """
    if data[pos : pos + 4] != _ZSTD_MAGIC or len(data) < pos + 9:
        return None
    descriptor = data[pos + 4]
    single_segment = descriptor >> 5 & 1
    if descriptor & 0x0B:  # a dictionary, or the reserved bit
        return None
    pos += 5 + (1 - single_segment) + (_FCS_LENGTHS[descriptor >> 6] or single_segment)
    blocks: list[tuple[int, int]] = []
    last = 0
    while not last:
        block = int.from_bytes(data[pos : pos + 3], "little")
        last, kind, size = block & _LAST_BLOCK, block >> 1 & 3, block >> 3
        start = pos + 3
        pos = start + size
        if kind != 0 or size > _MAX_BLOCK or pos > len(data):
            return None
        blocks.append((start, pos))
    return blocks
