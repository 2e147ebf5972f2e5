"""Record mode: each record of a client's batch sealed by itself, and back (FORMAT.md, section 10).

For topics that are compacted, and where records are put into other batches on their way. A record stays a record: its
offset and time stay in sight, its key is replaced by 32 bytes that are equal for equal keys.

`seal_records` and `unseal_records` are inverse for every record. The batch around them comes back as the broker has
it, without compression.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from functools import partial

from kveil.protocol.envelope import record_loops, registry
from kveil.protocol.envelope.compiled import loops
from kveil.protocol.envelope.crypto import SIGNATURE_LENGTH, TAG_LENGTH, RecordCipher
from kveil.protocol.envelope.errors import Reason, Unopenable
from kveil.protocol.envelope.header import HEADER, SALT_LENGTH, KeyBlock, extend
from kveil.protocol.envelope.key_schedule import WIRE_KEY_LENGTH, EpochKey, KeyHidingKey
from kveil.protocol.envelope.origin import COMMON_LENGTH, Origin
from kveil.protocol.envelope.position import Slot
from kveil.protocol.envelope.record_loops import PREFIX, Hide, Opened
from kveil.protocol.envelope.record_trailer import check_record, finisher, has_more, without_trailer
from kveil.protocol.envelope.sealed_batch import MAX_PLAINTEXT
from kveil.protocol.envelope.sealed_records import RecordSealedBatch, peek_records
from kveil.protocol.kafka import compression
from kveil.protocol.kafka.compression import MAX_DECOMPRESSED
from kveil.protocol.kafka.errors import BatchTooLarge, DecompressedTooLarge
from kveil.protocol.kafka.primitives import Buffer
from kveil.protocol.kafka.record_batch import (
    HEADER_LENGTH,
    LOG_APPEND_TIME,
    TRANSACTIONAL,
    BatchHeader,
    write_header,
)
from kveil.protocol.kafka.records import Header, read_headers, write_headers

__all__ = ["RecordSealedBatch", "peek_records", "seal_records", "unseal_records"]

# What a sealed record has beside the client's own bytes, extensions and signature apart, at most: lengths, the name of
# the tombstone's header.
GROWTH = HEADER.size + PREFIX.size + TAG_LENGTH + WIRE_KEY_LENGTH + 32


def seal_records(
    batch: memoryview,
    header: BatchHeader,
    *,
    key: EpochKey,
    hiding: KeyHidingKey | None,
    partition: int,
    codec: int = compression.NONE,
    origin_partition: bool = False,
    slot: Slot | None = None,
) -> list[Buffer]:
    """The batch with every record sealed, as buffers for `writelines`. `header` is what `check_produced(batch)`
    returned.

    `codec` is the outer batch's. Without `hiding` keys stay as they are, for the broker to see. `origin_partition`
    writes `partition` into the envelopes, for readers of another one. `slot` is the batch's position, where the
    key has such; its digest is the first record's. Raises BatchTooLarge, CorruptBatch or InvalidRecord.
    """
    extensions = extensions_of(key, hiding, partition if origin_partition else None, slot)
    section = client_section(batch, header.codec)
    growth = GROWTH + len(extensions) + (0 if key.signing_key is None else SIGNATURE_LENGTH)
    if len(section) + header.record_count * growth > MAX_DECOMPRESSED:
        raise BatchTooLarge("records above the limit of one sealed batch")
    salt = os.urandom(SALT_LENGTH)
    records = seal_section(
        section,
        header.record_count,
        header=header,
        key=key,
        salt=salt,
        extensions=extensions,
        partition=partition,
        hiding=hiding,
        slot=slot,
    )
    return outer_batch(header, codec, compression.compress(codec, records) if codec else records)


def extensions_of(
    key: EpochKey, hiding: KeyHidingKey | None, origin_partition: int | None, slot: Slot | None = None
) -> bytes:
    """The extensions of the envelopes of all records under one key."""
    extensions = key.extensions if key.is_plain and slot is None else key.extensions_at(slot)
    return extend(extensions, hiding_key_id=hiding.id if hiding else None, origin_partition=origin_partition)


def seal_section(
    section: bytes,
    count: int,
    *,
    header: BatchHeader,
    key: EpochKey,
    salt: bytes,
    extensions: bytes,
    partition: int,
    hiding: KeyHidingKey | None,
    slot: Slot | None = None,
) -> bytes:
    """`count` records of a batch under one key, each sealed. Raises as `seal_records` does."""
    seal_each = loops.seal_each
    if not key.is_plain or slot is not None:
        seal_each = partial(record_loops.seal_each, finish=finisher(key, partition, slot))
    return seal_each(
        section,
        count,
        header.last_offset_delta,
        header.base_timestamp,
        record_common=_common(registry.RECORD, extensions, key.kid, salt),
        tombstone_common=_common(registry.TOMBSTONE, extensions, key.kid, salt),
        extensions=extensions,
        cipher=key.record_cipher(partition, salt),
        hide=hiding.wire_key if hiding else None,
        most=MAX_PLAINTEXT,
    )


def client_section(batch: memoryview, codec: int) -> bytes:
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


def outer_batch(header: BatchHeader, codec: int, records: bytes) -> list[Buffer]:
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
    openers = {origin: opener(origin, keys, hiding, partition, any_partition) for origin in sealed.origins}
    add_headers = partial(_with_extra, names=extra_headers) if extra_headers else None
    checked = {
        origin: (key, origin.says.partition_for(partition, any_partition=any_partition))
        for origin in sealed.origins
        if (key := keys[origin.kid, origin.says.block]) and has_more(origin, key)
    }
    if not checked:
        return inner_batch(sealed.header, loops.open_each(sealed.records, openers, add_headers))
    opened = loops.open_each([without_trailer(record) for record in sealed.records], openers, add_headers)
    sealed.digests[:] = [check_record(record, checked) for record in sealed.records]
    return inner_batch(sealed.header, opened)


def opener(
    origin: Origin,
    keys: Mapping[tuple[bytes, KeyBlock], EpochKey],
    hiding: KeyHidingKey | None,
    partition: int,
    any_partition: bool,
) -> tuple[RecordCipher, Hide | None]:
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
    return key.record_cipher(bound_to, origin.salt), hide


def _with_extra(headers: bytes, wire_headers: list[Header], names: AbstractSet[bytes]) -> bytes:
    """The client's headers, and after them those from the wire that the reader wants."""
    inner, _ = read_headers(headers)
    return write_headers([raw for _, _, raw in inner] + [raw for name, _, raw in wire_headers if name in names])


def inner_batch(outer: BatchHeader, opened: Opened) -> list[Buffer]:
    """The batch that the client gets: the broker's but for what was sealed."""
    header = write_header(
        records=[opened.section],
        base_offset=outer.base_offset,
        partition_leader_epoch=outer.partition_leader_epoch,
        attributes=outer.attributes & (TRANSACTIONAL | LOG_APPEND_TIME),
        last_offset_delta=outer.last_offset_delta,
        base_timestamp=opened.base_timestamp,
        max_timestamp=outer.max_timestamp if outer.is_log_append_time else opened.max_timestamp,
        producer_id=outer.producer_id,
        producer_epoch=outer.producer_epoch,
        base_sequence=outer.base_sequence,
        record_count=outer.record_count,
    )
    return [header, opened.section]
