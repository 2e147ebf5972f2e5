"""Finding the envelope in a fetched batch, without a key (FORMAT.md, sections 2 and 3).

The broker may have given the batch any codec. The two ways in which most come, no codec and our own raw zstd
frame, are read where they lie; anything else is decompressed up to the end of record 0 and no further.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field

from kveil.protocol.envelope import registry
from kveil.protocol.envelope.crypto import SIGNATURE_LENGTH, TAG_LENGTH
from kveil.protocol.envelope.errors import NotSealed, OtherMode, Reason, Unopenable
from kveil.protocol.envelope.header import (
    HEADER,
    MAX_EXTENSIONS,
    TRAILER_LENGTHS,
    Extensions,
    KeyBlock,
    decode_extensions,
)
from kveil.protocol.envelope.stubs import raw_frame_blocks
from kveil.protocol.kafka import compression
from kveil.protocol.kafka.errors import CorruptBatch, InvalidRecord
from kveil.protocol.kafka.record_batch import HEADER_LENGTH, MAGIC, MAX_RECORDS, BatchHeader
from kveil.protocol.kafka.records import read_headers
from kveil.protocol.kafka.varint import read_varint, read_varlong

COMMITMENT_LENGTH = 32
RECORD_KEY_LENGTH = 16
PREFIX_LENGTH = 37  # what stands before the records section in the plaintext
# What one frame of Kafka holds by default (socket.request.max.bytes).
MAX_PLAINTEXT = 100 * 1024 * 1024

_FRONT = 64 + HEADER.size + MAX_EXTENSIONS + COMMITMENT_LENGTH  # record 0 up to its ciphertext, at most
_MAX_RECORD_0 = _FRONT + MAX_PLAINTEXT + TAG_LENGTH + SIGNATURE_LENGTH + 1
TOMBSTONE_HEADER = b"kveil"


@dataclass(slots=True, kw_only=True, eq=False)  # frozen, it would take a us more to make
class SealedBatch:
    """A sealed batch, parsed and not yet opened. Nothing in it is authenticated.

    `segments` are the ciphertext with its tag, in order, as (start, end) in `data`. `digest` is of the whole envelope;
    it is empty until `unseal` has opened one with a position or a signature.
    """

    header: BatchHeader
    mode: int
    kid: bytes
    says: Extensions
    count: int
    plaintext_length: int
    envelope_header: bytes = field(repr=False)
    extensions: bytes = field(repr=False)
    commitment: bytes = field(repr=False)
    data: memoryview = field(repr=False)
    segments: list[tuple[int, int]] = field(repr=False)
    trailer: bytes = field(repr=False)
    digest: bytes = b""

    @property
    def block(self) -> KeyBlock:
        """Whose key it is."""
        return self.says.block

    def ciphertext(self) -> memoryview:
        """Ciphertext and tag in one piece.

        Where block headers stand between the pieces they are closed up in place if `data` is writable, which
        saves a second copy of the batch; so afterwards the fetched bytes are no longer what the broker sent.
        """
        segments = self.segments
        if len(segments) > 1:
            if self.data.readonly:
                return memoryview(b"".join([self.data[start:end] for start, end in segments]))
            first, pos = segments[0]
            for start, end in segments[1:]:
                self.data[pos : pos + end - start] = self.data[start:end]
                pos += end - start
            segments[:] = [(first, pos)]
        start, end = segments[0]
        return self.data[start:end]


def peek(batch: memoryview, header: BatchHeader) -> SealedBatch:
    """Parses one fetched batch, `header` being its `read_header`. Raises NotSealed or Unopenable.

    Not for control batches and batches without records: those have checks of their own (`record_batch`).
    """
    if header.magic != MAGIC or header.is_control or header.record_count < 1:
        raise Unopenable(Reason.BATCH)
    try:
        data, blocks = _content(batch, header.codec)
        return _read_record_0(data, blocks, header)
    except CorruptBatch:
        raise Unopenable(Reason.RECORD) from None


def _content(batch: memoryview, codec: int) -> tuple[memoryview, list[tuple[int, int]]]:
    """The records section uncompressed, at least up to the end of record 0: (buffer, pieces in it)."""
    if codec == compression.NONE:
        return batch, [(HEADER_LENGTH, len(batch))]
    if codec == compression.ZSTD:
        blocks = raw_frame_blocks(batch, HEADER_LENGTH)
        if blocks and _holds_record_0(batch, blocks):
            return batch, blocks
    data = batch[HEADER_LENGTH:]
    # Ciphertext does not compress, so this nearly always holds record 0 already.
    head = _decompress_head(codec, data, min(max(len(data), _FRONT), _MAX_RECORD_0))
    length, body = read_varint(head, 0)
    if body + length > len(head):
        head = _decompress_head(codec, data, body + length)
    return head, [(0, len(head))]


def _holds_record_0(batch: memoryview, blocks: list[tuple[int, int]]) -> bool:
    """Whether record 0 ends in these blocks, and all that stands before its ciphertext in the first of them."""
    start, stop = blocks[0]
    if len(blocks) > 1 and stop - start < _FRONT:
        return False
    try:
        length, body = read_varint(batch[start:stop], 0)
    except CorruptBatch:
        return False
    return body + length <= sum([end - begin for begin, end in blocks])


def _decompress_head(codec: int, data: memoryview, enough: int) -> memoryview:
    try:
        return compression.decompress_head(codec, data, enough, _MAX_RECORD_0)
    except CorruptBatch:
        raise Unopenable(Reason.OUTER_CODEC) from None


def _read_record_0(data: memoryview, blocks: list[tuple[int, int]], header: BatchHeader) -> SealedBatch:
    """Record 0 from pieces of which the first holds at least everything before the ciphertext."""
    head = data[blocks[0][0] : blocks[0][1]]
    length, pos = read_varint(head, 0)
    record_end = pos + length
    _, pos = read_varlong(head, pos + 1)
    offset_delta, pos = read_varint(head, pos)
    key_length, pos = read_varint(head, pos)
    value_length, value = read_varint(head, pos + max(key_length, 0))
    if value_length < 0:
        _refuse_tombstone(bytes(head[value:record_end]))
        raise NotSealed("record 0 has no value")
    if head[value : value + min(value_length, 3)].tobytes() != registry.MAGIC:
        raise NotSealed("the value of record 0 is no envelope")
    extension_length, kid, count, plaintext_length, trailer_length = _check_header(head, value, value_length)
    value_end = value + value_length
    if offset_delta != 0 or key_length != RECORD_KEY_LENGTH or record_end != value_end + 1:
        raise Unopenable(Reason.RECORD)
    headers_at = _pieces(blocks, value_end, record_end)[0][0]
    if data[headers_at] != 0:  # the writer put none there
        raise Unopenable(Reason.RECORD)
    if count != header.last_offset_delta + 1 or not 1 <= header.record_count <= count:
        raise Unopenable(Reason.COUNT)
    extensions_at = value + HEADER.size
    commitment_at = extensions_at + extension_length
    ciphertext_at = commitment_at + COMMITMENT_LENGTH
    extensions = bytes(head[extensions_at:commitment_at])
    says = decode_extensions(extensions, registry.BATCH)
    if says.trailer_length != trailer_length:
        raise Unopenable(Reason.LENGTH)
    trailer = b""
    if trailer_length:
        value_end -= trailer_length
        trailer = b"".join([data[start:end] for start, end in _pieces(blocks, value_end, value_end + trailer_length)])
    return SealedBatch(
        header=header,
        mode=registry.BATCH,
        kid=kid,
        says=says,
        count=count,
        plaintext_length=plaintext_length,
        envelope_header=bytes(head[value:extensions_at]),
        extensions=extensions,
        commitment=bytes(head[commitment_at:ciphertext_at]),
        data=data,
        segments=_pieces(blocks, ciphertext_at, value_end),
        trailer=trailer,
    )


def _check_header(head: memoryview, value: int, value_length: int) -> tuple[int, bytes, int, int, int]:
    """Lengths of the extensions, kid, count, and lengths of plaintext and trailer from the envelope at `value`. Raises
    Unopenable.
    """
    if value_length < HEADER.size or value + HEADER.size > len(head):
        raise Unopenable(Reason.LENGTH)
    fields = HEADER.unpack_from(head, value)
    _, version, mode, suite, extension_length, kid, _, count, plaintext_length = fields
    if version != registry.VERSION:
        raise Unopenable(Reason.VERSION)
    if mode != registry.BATCH:
        raise OtherMode if mode in {registry.RECORD, registry.TOMBSTONE} else Unopenable(Reason.MODE)
    if suite != registry.HKDF_SHA512_AES_256_GCM:
        raise Unopenable(Reason.SUITE)
    whole = HEADER.size + extension_length + COMMITMENT_LENGTH + plaintext_length + TAG_LENGTH
    if extension_length > MAX_EXTENSIONS or not PREFIX_LENGTH <= plaintext_length <= MAX_PLAINTEXT:
        raise Unopenable(Reason.LENGTH)
    if value_length - whole not in TRAILER_LENGTHS:
        raise Unopenable(Reason.LENGTH)
    if not 1 <= count <= MAX_RECORDS:
        raise Unopenable(Reason.COUNT)
    return extension_length, kid, count, plaintext_length, value_length - whole


def _refuse_tombstone(headers: bytes) -> None:
    """Raises OtherMode if record mode's own is among the headers behind a null value."""
    with suppress(InvalidRecord):
        if any(name == TOMBSTONE_HEADER for name, _, _ in read_headers(headers)[0]):
            raise OtherMode


def _pieces(blocks: list[tuple[int, int]], start: int, end: int) -> list[tuple[int, int]]:
    """Where bytes start..end of all blocks put together lie in the buffer. Raises CorruptBatch."""
    first, stop = blocks[0]
    if first + end <= stop:
        return [(first + start, first + end)]
    pieces = []
    at = 0
    for block_start, block_end in blocks:
        size = block_end - block_start
        low, high = max(start - at, 0), min(end - at, size)
        if low < high:
            pieces.append((block_start + low, block_start + high))
        at += size
    if at < end:
        raise CorruptBatch("record 0 is cut")
    return pieces
