"""Record mode: each record of a client's batch sealed by itself, and back (FORMAT.md, section 10).

For topics that are compacted, and where records are put into other batches on their way. A record stays a record: its
offset and time stay in sight, its key is replaced by 32 bytes that are equal for equal keys.

`seal_records` and `unseal_records` are inverse for every record. The batch around them comes back as the broker has
it, without compression.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from struct import Struct
from struct import error as StructError  # noqa: N812 - it is an exception class under a lower-case name

from kveil.protocol.envelope import registry
from kveil.protocol.envelope.crypto import TAG_LENGTH, RecordCipher
from kveil.protocol.envelope.errors import Reason, Unopenable
from kveil.protocol.envelope.header import HEADER, SALT_LENGTH, KeyBlock, extend
from kveil.protocol.envelope.key_schedule import WIRE_KEY_LENGTH, EpochKey, KeyHidingKey
from kveil.protocol.envelope.sealed_batch import MAX_PLAINTEXT, TOMBSTONE_HEADER
from kveil.protocol.envelope.sealed_records import (
    COMMON_LENGTH,
    RECORD_PREFIX,
    Origin,
    RecordSealedBatch,
    peek_records,
)
from kveil.protocol.kafka import compression
from kveil.protocol.kafka.compression import MAX_DECOMPRESSED
from kveil.protocol.kafka.errors import BatchTooLarge, DecompressedTooLarge, InvalidRecord
from kveil.protocol.kafka.primitives import Buffer
from kveil.protocol.kafka.record_batch import (
    HEADER_LENGTH,
    LOG_APPEND_TIME,
    TRANSACTIONAL,
    BatchHeader,
    write_header,
)
from kveil.protocol.kafka.records import (
    NO_HEADERS,
    Header,
    read_headers,
    read_records,
    write_headers,
    write_record,
    write_record_header,
)

__all__ = ["RecordSealedBatch", "peek_records", "seal_records", "unseal_records"]

_Decrypt = Callable[[int, bytes, bytes, str], bytes]
_Hide = Callable[[bytes], bytes]

_NOT_HIDDEN = -1
# What a sealed record has beside the client's own bytes, extensions apart, at most: lengths, the name of the
# tombstone's header.
_GROWTH = HEADER.size + RECORD_PREFIX.size + TAG_LENGTH + WIRE_KEY_LENGTH + 32
_TIME_SPAN = 2**63  # the difference of two timestamps is a varint of 64 bits


def seal_records(
    batch: memoryview,
    header: BatchHeader,
    *,
    key: EpochKey,
    hiding: KeyHidingKey | None,
    partition: int,
    codec: int = compression.NONE,
    origin_partition: bool = False,
) -> list[Buffer]:
    """The batch with every record sealed, as buffers for `writelines`. `header` is what `check_produced(batch)`
    returned.

    `codec` is the outer batch's. Without `hiding` keys stay as they are, for the broker to see. `origin_partition`
    writes `partition` into the envelopes, for readers of another one. Raises BatchTooLarge, CorruptBatch or
    InvalidRecord.
    """
    extensions = extend(
        key.extensions,
        hiding_key_id=hiding.id if hiding else None,
        origin_partition=partition if origin_partition else None,
    )
    section = _client_section(batch, header.codec)
    if len(section) + header.record_count * (_GROWTH + len(extensions)) > MAX_DECOMPRESSED:
        raise BatchTooLarge("records above the limit of one sealed batch")
    salt = os.urandom(SALT_LENGTH)
    cipher = key.record_cipher(partition, salt)
    try:
        records = _seal_all(section, header, salt=salt, key=key, extensions=extensions, cipher=cipher, hiding=hiding)
    except StructError:
        raise InvalidRecord("timestamp of a record") from None
    return _outer_batch(header, codec, compression.compress(codec, records) if codec else records)


def _client_section(batch: memoryview, codec: int) -> bytes:
    """The client's records section, without compression."""
    data = batch[HEADER_LENGTH:]
    if codec == compression.NONE:
        return bytes(data)
    try:
        return bytes(compression.decompress(codec, data, MAX_DECOMPRESSED))
    except DecompressedTooLarge as error:
        raise BatchTooLarge(str(error)) from error


def _common(mode: int, extensions: bytes, kid: bytes, salt: bytes) -> bytes:
    """The part of the envelope header that all records of the mode share."""
    suite = registry.HKDF_SHA512_AES_256_GCM
    header = HEADER.pack(registry.MAGIC, registry.VERSION, mode, suite, len(extensions), kid, salt, 0, 0)
    return header[:COMMON_LENGTH]


def _seal_all(
    section: bytes,
    header: BatchHeader,
    *,
    salt: bytes,
    key: EpochKey,
    extensions: bytes,
    cipher: RecordCipher,
    hiding: KeyHidingKey | None,
) -> bytes:
    """The sealed records section."""
    record_common = _common(registry.RECORD, extensions, key.kid, salt)
    tombstone_common = _common(registry.TOMBSTONE, extensions, key.kid, salt)
    pack_head = Struct(f">{COMMON_LENGTH}sII{len(extensions)}s").pack
    pack_prefix, encrypt, join = RECORD_PREFIX.pack, cipher.encrypt, b"".join
    hide = hiding.wire_key if hiding else None
    base_timestamp = header.base_timestamp
    pieces: list[bytes] = []
    records = read_records(section, header.record_count, header.last_offset_delta)
    for index, (timestamp_delta, offset_delta, record_key, value, headers) in enumerate(records):
        timestamp = base_timestamp + timestamp_delta
        if hide is None or record_key is None:
            wire_key = record_key
            plaintext = join((pack_prefix(0, 0, timestamp, _NOT_HIDDEN), headers, value or b""))
        else:
            wire_key = hide(record_key)
            plaintext = join((pack_prefix(0, 0, timestamp, len(record_key)), record_key, headers, value or b""))
        size = len(plaintext)
        if size > MAX_PLAINTEXT:
            raise BatchTooLarge("record above the limit of one envelope")
        head = pack_head(record_common if value is not None else tombstone_common, index, size, extensions)
        ciphertext = encrypt(index, plaintext, b"%b\x00" % head if wire_key is None else b"%b\x01%b" % (head, wire_key))
        if value is None:
            own = write_headers([write_record_header(TOMBSTONE_HEADER, head + ciphertext)])
            pieces += write_record(timestamp_delta, offset_delta, wire_key, None, own)
        else:
            pieces += write_record(timestamp_delta, offset_delta, wire_key, head + ciphertext)
    return join(pieces)


def _outer_batch(header: BatchHeader, codec: int, records: bytes) -> list[Buffer]:
    """The sealed batch: of the client's header the broker sees all but the base offset."""
    outer = write_header(
        records=[records],
        base_offset=0,
        partition_leader_epoch=header.partition_leader_epoch,
        attributes=header.attributes & TRANSACTIONAL | codec,
        last_offset_delta=header.last_offset_delta,
        base_timestamp=header.base_timestamp,
        max_timestamp=header.max_timestamp,
        producer_id=header.producer_id,
        producer_epoch=header.producer_epoch,
        base_sequence=header.base_sequence,
        record_count=header.record_count,
    )
    return [outer, records]


def unseal_records(
    sealed: RecordSealedBatch,
    *,
    keys: Mapping[tuple[bytes, KeyBlock], EpochKey],
    hiding: KeyHidingKey | None,
    partition: int,
    any_partition: bool = False,
    create_time_only: bool = False,
    extra_headers: AbstractSet[bytes] = frozenset(),
) -> list[Buffer]:
    """The client's records as [61-byte header, records section], without compression. Raises Unopenable.

    `keys` has one for each of `sealed.keys`, for the reader's own realm and topic. `partition` is where the batch was
    found; with `any_partition` the one that an envelope names counts, if it names one. `create_time_only` refuses
    timestamps that the broker set. Of the headers that stand on the wire, those named in `extra_headers` follow the
    client's own; they are anybody's word.
    """
    if create_time_only and sealed.header.is_log_append_time:
        raise Unopenable(Reason.TIMESTAMP_TYPE)
    openers = {origin: _opener(origin, keys, hiding, partition, any_partition) for origin in sealed.origins}
    timestamps: list[int] = []
    pieces: list[bytes] = []
    last: Origin | None = None
    for origin, index, offset_delta, wire_key, head, ciphertext, wire_headers in sealed.records:
        if origin is not last:
            decrypt, hide = openers[origin]
            last = origin
        aad = b"%b\x00" % head if wire_key is None else b"%b\x01%b" % (head, wire_key)
        plaintext = decrypt(index, ciphertext, aad, Reason.TAG)
        timestamp, key, headers, value = _read_plaintext(plaintext, origin.mode, wire_key, hide)
        if wire_headers and extra_headers:
            headers = _with_extra(headers, wire_headers, extra_headers)
        timestamps.append(timestamp)
        pieces += write_record(timestamp - timestamps[0], offset_delta, key, value, headers)
    if max(timestamps) - min(timestamps) >= _TIME_SPAN:
        raise Unopenable(Reason.INNER_RECORD)
    return _inner_batch(sealed.header, timestamps[0], max(timestamps), b"".join(pieces))


def _opener(
    origin: Origin,
    keys: Mapping[tuple[bytes, KeyBlock], EpochKey],
    hiding: KeyHidingKey | None,
    partition: int,
    any_partition: bool,
) -> tuple[_Decrypt, _Hide | None]:
    """What opens the envelopes of one origin, and what hid their keys if anything did. Raises Unopenable if these are
    not its keys, or not its partition.
    """
    key = keys.get((origin.kid, origin.says.block))
    if key is None or key.kid != origin.kid:
        raise Unopenable(Reason.OTHER_KEY)
    hide = None
    if origin.says.hiding_key_id is not None:
        if hiding is None or hiding.id != origin.says.hiding_key_id:
            raise Unopenable(Reason.KEY_HIDING_KEY)
        hide = hiding.wire_key
    bound_to = origin.says.partition_for(partition, any_partition=any_partition)
    return key.record_cipher(bound_to, origin.salt).decrypt, hide


def _read_plaintext(
    plaintext: bytes, mode: int, wire_key: bytes | None, hide: _Hide | None
) -> tuple[int, bytes | None, bytes, bytes | None]:
    """Client timestamp, key, headers with their count, value. Raises Unopenable."""
    flags, pad_length, timestamp, key_length = RECORD_PREFIX.unpack_from(plaintext)
    if flags:
        raise Unopenable(Reason.FLAGS)
    pos, end = RECORD_PREFIX.size, len(plaintext) - pad_length
    if pad_length and (end <= pos or any(plaintext[end:])):
        raise Unopenable(Reason.PAD)
    if key_length < _NOT_HIDDEN or (hide is None and key_length != _NOT_HIDDEN):
        raise Unopenable(Reason.INNER_RECORD)
    if hide is None:
        key = wire_key
    else:
        key = plaintext[pos : (pos := pos + key_length)] if key_length >= 0 else None
        if wire_key != (None if key is None else hide(key)):
            raise Unopenable(Reason.WIRE_KEY)
    if plaintext[pos : pos + 1] == NO_HEADERS:
        headers = NO_HEADERS
        pos += 1
    else:
        headers, pos = _inner_headers(plaintext, pos)
    is_tombstone = mode == registry.TOMBSTONE
    if pos > end or (is_tombstone and pos < end):
        raise Unopenable(Reason.INNER_RECORD)
    return timestamp, key, headers, None if is_tombstone else plaintext[pos:end]


def _inner_headers(plaintext: bytes, pos: int) -> tuple[bytes, int]:
    """The client's headers with their count, and the position after them."""
    start = pos
    try:
        _, pos = read_headers(plaintext, pos)
    except InvalidRecord:
        raise Unopenable(Reason.INNER_RECORD) from None
    return plaintext[start:pos], pos


def _with_extra(headers: bytes, wire_headers: list[Header], names: AbstractSet[bytes]) -> bytes:
    """The client's headers, and after them those from the wire that the reader wants."""
    inner, _ = read_headers(headers)
    return write_headers([raw for _, _, raw in inner] + [raw for name, _, raw in wire_headers if name in names])


def _inner_batch(outer: BatchHeader, base_timestamp: int, max_timestamp: int, records: bytes) -> list[Buffer]:
    """The batch that the client gets: the broker's but for what was sealed."""
    header = write_header(
        records=[records],
        base_offset=outer.base_offset,
        partition_leader_epoch=outer.partition_leader_epoch,
        attributes=outer.attributes & (TRANSACTIONAL | LOG_APPEND_TIME),
        last_offset_delta=outer.last_offset_delta,
        base_timestamp=base_timestamp,
        max_timestamp=outer.max_timestamp if outer.is_log_append_time else max_timestamp,
        producer_id=outer.producer_id,
        producer_epoch=outer.producer_epoch,
        base_sequence=outer.base_sequence,
        record_count=outer.record_count,
    )
    return [header, records]
