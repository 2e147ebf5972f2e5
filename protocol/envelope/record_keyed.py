"""Record mode where every record key has an epoch key of its own: sealed key by key, and opened around what is erased.

The loops know one key at a time. So a batch's records are put together by their record keys, sealed, and put back in
their order; an index then counts the records of one key in the batch, which is as good: a key, a salt and an index
never come together twice (FORMAT.md, section 10.1).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet

from kveil.protocol.envelope.errors import Reason, Unopenable
from kveil.protocol.envelope.header import SALT_LENGTH, KeyBlock
from kveil.protocol.envelope.key_schedule import EpochKey, KeyHidingKey
from kveil.protocol.envelope.origin import SealedRecord
from kveil.protocol.envelope.record import (
    GROWTH,
    client_section,
    extensions_of,
    inner_batch,
    outer_batch,
    seal_section,
    unseal_records,
)
from kveil.protocol.envelope.record_loops import Opened
from kveil.protocol.envelope.sealed_records import RecordSealedBatch, section_of
from kveil.protocol.kafka import compression
from kveil.protocol.kafka.compression import MAX_DECOMPRESSED
from kveil.protocol.kafka.errors import BatchTooLarge
from kveil.protocol.kafka.primitives import Buffer
from kveil.protocol.kafka.record_batch import BatchHeader, read_header
from kveil.protocol.kafka.records import read_records, split_records, write_headers, write_record, write_record_header

ERASED_HEADER = b"kveil-erased"
"""The header of what is delivered in an erased record's place: why its value is null."""

_ERASED = write_headers([write_record_header(ERASED_HEADER, b"the epoch key of this record key was erased")])

Place = tuple[bytes, KeyBlock]
IsItsKey = Callable[[bytes | None, bool], bool]
"""Whether a wire key, which may be hidden, is the one of an erased record key."""


def record_keys(batch: memoryview, header: BatchHeader) -> set[bytes | None]:
    """The distinct keys of a client's records, None for a null one. Raises BatchRefused."""
    section = client_section(batch, header.codec)
    return {record[2] for record in read_records(section, header.record_count, header.last_offset_delta)}


def seal_keyed_records(
    batch: memoryview,
    header: BatchHeader,
    *,
    key_of: Callable[[bytes | None], EpochKey],
    hiding: KeyHidingKey | None,
    partition: int,
    codec: int = compression.NONE,
    origin_partition: bool = False,
) -> list[Buffer]:
    """As `seal_records`, each record under the epoch key that `key_of` gives for its record key."""
    section = client_section(batch, header.codec)
    places: dict[bytes | None, list[int]] = {}
    for place, record in enumerate(read_records(section, header.record_count, header.last_offset_delta)):
        places.setdefault(record[2], []).append(place)
    raw = list(split_records(section))
    sealed: list[bytes] = [b""] * len(raw)
    size = 0
    salt = os.urandom(SALT_LENGTH)
    for record_key, mine in places.items():
        key = key_of(record_key)
        extensions = extensions_of(key, hiding, partition if origin_partition else None)
        size += sum(len(raw[place]) for place in mine) + len(mine) * (GROWTH + len(extensions))
        if size > MAX_DECOMPRESSED:
            raise BatchTooLarge("records above the limit of one sealed batch")
        made = seal_section(
            b"".join([raw[place] for place in mine]),
            len(mine),
            header=header,
            key=key,
            salt=salt,
            extensions=extensions,
            partition=partition,
            hiding=hiding,
        )
        for place, one in zip(mine, split_records(made), strict=True):
            sealed[place] = one
    records = b"".join(sealed)
    return outer_batch(header, codec, compression.compress(codec, records) if codec else records)


def unseal_around(
    batch: memoryview,
    sealed: RecordSealedBatch,
    *,
    is_its_key: Mapping[Place, IsItsKey],
    keys: Mapping[Place, EpochKey],
    hiding: KeyHidingKey | None,
    partition: int,
    any_partition: bool = False,
    create_time_only: bool = False,
    extra_headers: AbstractSet[bytes] = frozenset(),
) -> list[Buffer]:
    """As `unseal_records`, where the keys in `is_its_key` are erased: their records have a null value, and a
    header that says why.

    Its values tell whether a wire key, hidden or not, is its record key's: else a broker could dress any
    record's deletion as an erasure. The wire key stays, also where it is hidden: what it hid is gone too. Times are the
    broker's word. Raises Unopenable.
    """
    if create_time_only and sealed.header.is_log_append_time:
        raise Unopenable(Reason.TIMESTAMP_TYPE)
    live = [record for record in sealed.records if _place(record) not in is_its_key]
    opened: Iterator[bytes] = iter(())
    times: list[int] = []
    base: int | None = None
    if live:
        remaining = RecordSealedBatch(
            header=sealed.header, origins=list(dict.fromkeys(record[0] for record in live)), records=live
        )
        head, section = unseal_records(
            remaining,
            keys=keys,
            hiding=hiding,
            partition=partition,
            any_partition=any_partition,
            extra_headers=extra_headers,
        )
        base, opened = read_header(head).base_timestamp, split_records(bytes(section))
        times.append(_latest(bytes(section), base, sealed.header, len(live)))
    header = sealed.header
    wire = read_records(section_of(batch, header.codec), header.record_count, header.last_offset_delta)
    pieces: list[bytes] = []
    for record, (delta, *_) in zip(sealed.records, wire, strict=True):
        if _place(record) not in is_its_key:
            pieces.append(next(opened))
            continue
        if not is_its_key[_place(record)](record[3], record[0].says.hiding_key_id is not None):
            raise Unopenable(Reason.WIRE_KEY)
        stamp = header.base_timestamp + delta
        base = stamp if base is None else base
        times.append(stamp)
        pieces += write_record(stamp - base, record[2], record[3], None, _ERASED)
    if base is None or max(times) - base >= 2**62 or min(times) - base <= -(2**62):
        raise Unopenable(Reason.INNER_RECORD)
    return inner_batch(header, Opened(b"".join(pieces), base, max(times)))


def _place(record: SealedRecord) -> Place:
    return record[0].kid, record[0].says.block


def _latest(section: bytes, base: int, header: BatchHeader, count: int) -> int:
    return max(base + delta for delta, *_ in read_records(section, count, header.last_offset_delta))
