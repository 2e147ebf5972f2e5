"""Batch mode: a client's batch into a sealed one and back (FORMAT.md, sections 2 to 5).

Each byte is touched as few times as possible: the plaintext is read where the client's frame lies, the
ciphertext is written once, and the CRC-32C runs over the pieces that are then sent as they are.

`seal` and `unseal` are inverse up to what a broker assigns: base offset, leader epoch, and, under
LogAppendTime, the timestamp type and maxTimestamp. The records section comes back byte for byte.
"""

from __future__ import annotations

import os
from struct import Struct

from kveil.protocol.envelope import crypto, registry
from kveil.protocol.envelope.errors import Reason, Unopenable
from kveil.protocol.envelope.header import HEADER, SALT_LENGTH, extend
from kveil.protocol.envelope.key_schedule import EpochKey
from kveil.protocol.envelope.position import Slot
from kveil.protocol.envelope.sealed_batch import (
    MAX_PLAINTEXT,
    PREFIX_LENGTH,
    RECORD_KEY_LENGTH,
    SealedBatch,
    peek,
)
from kveil.protocol.envelope.stubs import SMALLEST_COMPRESSED, StubCodec, plain_stubs, raw_frame, stub_frames
from kveil.protocol.envelope.trailer import check_trailer, make_trailer
from kveil.protocol.kafka import compression
from kveil.protocol.kafka.errors import BatchTooLarge, CorruptBatch
from kveil.protocol.kafka.primitives import Buffer
from kveil.protocol.kafka.record_batch import (
    CODEC_MASK,
    HEADER_LENGTH,
    HIGHEST_CODEC,
    LOG_APPEND_TIME,
    PRODUCED_ATTRIBUTES,
    TRANSACTIONAL,
    BatchHeader,
    write_header,
)
from kveil.protocol.kafka.varint import write_varint

__all__ = ["SealedBatch", "StubCodec", "peek", "seal", "unseal"]

# flags 1, pad length 4, attributes 2, baseTimestamp 8, maxTimestamp 8, producerId 8, producerEpoch 2,
# baseSequence 4
_PREFIX = Struct(">BIhqqqhi")
_PREFIX_AT = HEADER_LENGTH - PREFIX_LENGTH
_NO_HEADERS = b"\x00"
_KEY_LENGTH_VARINT = write_varint(RECORD_KEY_LENGTH)


def seal(
    batch: memoryview,
    header: BatchHeader,
    *,
    key: EpochKey,
    partition: int,
    stub_codec: StubCodec = StubCodec.AUTO,
    compress: int | None = None,
    origin_partition: bool = False,
    slot: Slot | None = None,
) -> list[Buffer]:
    """The sealed batch, as buffers for `writelines`. `header` is what `check_produced(batch)` returned.

    `batch` must be writable: the plaintext's prefix is written over the end of its header, so that the cipher
    runs over one piece without a copy. The records section stays, so the same batch may be sealed again,
    under a fresh salt (with `compress`, say, if it came out too large). `compress` is a level of zstd, and does
    nothing to a batch that the client compressed. `origin_partition` writes `partition` into the envelope, for
    readers of another one. `slot` is the batch's position, where the key has such. Raises BatchTooLarge.
    """
    if len(batch) - _PREFIX_AT > MAX_PLAINTEXT:
        raise BatchTooLarge("batch above the limit of one envelope")
    plaintext = _plaintext(batch, header, compress=compress)
    drawn = os.urandom(SALT_LENGTH + RECORD_KEY_LENGTH)
    count = header.record_count
    needs_key_alone = key.is_plain and slot is None
    extensions = key.extensions if needs_key_alone else key.extensions_at(slot)
    if origin_partition:
        extensions = extend(extensions, origin_partition=partition)
    envelope_header = HEADER.pack(
        registry.MAGIC,
        registry.VERSION,
        registry.BATCH,
        registry.HKDF_SHA512_AES_256_GCM,
        len(extensions),
        key.kid,
        drawn[:SALT_LENGTH],
        count,
        len(plaintext),
    )
    keys = key.batch_keys(partition, envelope_header, extensions)
    ciphertext = crypto.encrypt(keys.key, keys.nonce, plaintext)
    front = b"".join((envelope_header, extensions, keys.commitment))
    tail = b"" if needs_key_alone else make_trailer(front, ciphertext, key=key, partition=partition, slot=slot)
    head = _record_0_head(drawn[SALT_LENGTH:], len(front) + len(ciphertext) + len(tail)) + front
    tail += _NO_HEADERS
    if stub_codec is StubCodec.AUTO and count >= SMALLEST_COMPRESSED:
        codec = compression.ZSTD
        start, pieces = raw_frame(head, memoryview(ciphertext), tail)
        pieces += stub_frames(count)
    else:
        codec = compression.NONE
        start, pieces = head, [ciphertext, tail]
        if count > 1:
            pieces.append(plain_stubs(count))
    pieces.insert(0, start)
    pieces.insert(0, _outer_header(header, codec, pieces))
    return pieces


def _plaintext(batch: memoryview, header: BatchHeader, *, compress: int | None) -> memoryview:
    """Prefix and records section in one piece, in place unless the proxy compresses."""
    flags = 0
    if compress is not None and not header.codec:
        packed = compression.compress(compression.ZSTD, batch[HEADER_LENGTH:], compress)
        if len(packed) < len(batch) - HEADER_LENGTH:
            flags = registry.COMPRESSED
            batch = memoryview(bytearray(HEADER_LENGTH) + packed)
    _PREFIX.pack_into(
        batch,
        _PREFIX_AT,
        flags,
        0,
        header.attributes,
        header.base_timestamp,
        header.max_timestamp,
        header.producer_id,
        header.producer_epoch,
        header.base_sequence,
    )
    return batch[_PREFIX_AT:]


def _record_0_head(record_key: bytes, value_length: int) -> bytes:
    """Record 0 up to its value: length, attributes, timestamp delta, offset delta (0 each), key, value
    length.
    """
    lengths = write_varint(value_length)
    body = 4 + RECORD_KEY_LENGTH + len(lengths) + value_length + len(_NO_HEADERS)
    return b"".join((write_varint(body), b"\x00\x00\x00", _KEY_LENGTH_VARINT, record_key, lengths))


def _outer_header(header: BatchHeader, codec: int, pieces: list[Buffer]) -> bytes:
    """What the broker sees of the client's header. baseTimestamp is maxTimestamp: stubs have a delta of 0."""
    return write_header(
        records=pieces,
        base_offset=0,
        partition_leader_epoch=header.partition_leader_epoch,
        attributes=header.attributes & TRANSACTIONAL | codec,
        last_offset_delta=header.last_offset_delta,
        base_timestamp=header.max_timestamp,
        max_timestamp=header.max_timestamp,
        producer_id=header.producer_id,
        producer_epoch=header.producer_epoch,
        base_sequence=header.base_sequence,
        record_count=header.record_count,
    )


def unseal(sealed: SealedBatch, *, key: EpochKey, partition: int, any_partition: bool = False) -> list[Buffer]:
    """The client's batch as [61-byte header, records section]. Raises Unopenable.

    `partition` is where the batch was found; with `any_partition` the one that the envelope names counts, if it
    names one.

    `key` must be the one that `sealed.kid` and `sealed.block` name, for the reader's own realm and topic. A
    large batch is read in place (`SealedBatch.ciphertext`): its fetched bytes are spent afterwards.
    """
    if sealed.kid != key.kid:
        raise Unopenable(Reason.OTHER_KEY)
    bound_to = sealed.says.partition_for(partition, any_partition=any_partition)
    keys = key.batch_keys(bound_to, sealed.envelope_header, sealed.extensions)
    crypto.check_equal(sealed.commitment, keys.commitment, Reason.COMMITMENT)
    ciphertext = sealed.ciphertext()
    plaintext = memoryview(crypto.decrypt(keys.key, keys.nonce, ciphertext, Reason.TAG))
    if sealed.trailer or sealed.says.position is not None or not key.is_plain:
        front = (sealed.envelope_header, sealed.extensions, sealed.commitment)
        sealed.digest = check_trailer(
            *front, ciphertext, trailer=sealed.trailer, says=sealed.says, key=key, partition=bound_to
        )
    flags, pad_length, attributes, *fields = _PREFIX.unpack_from(plaintext)
    if flags & ~registry.COMPRESSED:
        raise Unopenable(Reason.FLAGS)
    _check_inner(sealed.header, attributes, flags, fields)
    records_end = len(plaintext) - pad_length
    if records_end < PREFIX_LENGTH or any(plaintext[records_end:]):
        raise Unopenable(Reason.PAD)
    records = plaintext[PREFIX_LENGTH:records_end]
    if flags & registry.COMPRESSED:
        try:
            records = compression.decompress(compression.ZSTD, records, MAX_PLAINTEXT)
        except CorruptBatch:
            raise Unopenable(Reason.INNER_COMPRESSION) from None
    return [_inner_header(sealed, attributes, fields, records), records]


def _check_inner(outer: BatchHeader, attributes: int, flags: int, fields: list[int]) -> None:
    """Raises Unopenable unless the sealed fields are a producer's, and the ones that the broker saw."""
    codec = attributes & CODEC_MASK
    if attributes & ~PRODUCED_ATTRIBUTES or codec > HIGHEST_CODEC or (flags & registry.COMPRESSED and codec):
        raise Unopenable(Reason.ATTRIBUTES)
    _, _, producer_id, producer_epoch, base_sequence = fields
    if (
        producer_id != outer.producer_id
        or producer_epoch != outer.producer_epoch
        or base_sequence != outer.base_sequence
        or (attributes ^ outer.attributes) & TRANSACTIONAL
    ):
        raise Unopenable(Reason.PRODUCER)


def _inner_header(sealed: SealedBatch, attributes: int, fields: list[int], records: memoryview) -> bytes:
    """The client's header, with what the broker assigned: offsets, leader epoch, LogAppendTime."""
    outer = sealed.header
    base_timestamp, max_timestamp, producer_id, producer_epoch, base_sequence = fields
    by_broker = outer.attributes & LOG_APPEND_TIME
    return write_header(
        records=[records],
        base_offset=outer.base_offset,
        partition_leader_epoch=outer.partition_leader_epoch,
        attributes=attributes & ~LOG_APPEND_TIME | by_broker,
        last_offset_delta=sealed.count - 1,
        base_timestamp=base_timestamp,
        max_timestamp=outer.max_timestamp if by_broker else max_timestamp,
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        base_sequence=base_sequence,
        record_count=sealed.count,
    )
