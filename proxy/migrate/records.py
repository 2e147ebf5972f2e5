"""Records out of what was fetched, and into batches that are produced: pure."""

from collections.abc import Iterable, Iterator
from struct import Struct
from typing import Any, NamedTuple

from kveil.protocol.kafka import compression
from kveil.protocol.kafka.compression import MAX_DECOMPRESSED
from kveil.protocol.kafka.primitives import Buffer
from kveil.protocol.kafka.record_batch import (
    HEADER_LENGTH,
    TRANSACTIONAL,
    check_control_batch,
    read_header,
    split_batches,
    write_header,
)
from kveil.protocol.kafka.records import read_records, write_record

MOST_RECORDS = 10_000
"""In one batch that is produced: as librdkafka has it."""

_SIZES = Struct(">qiii")


class CopiedRecord(NamedTuple):
    """A record, as far as a copy must keep it. Headers stand as in the batch, with their count."""

    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: bytes

    def digested(self) -> bytes:
        """Return bytes that no other record has, for a digest."""
        key, value, headers = self.key, self.value, self.headers
        sizes = (-1 if key is None else len(key), -1 if value is None else len(value), len(headers))
        return b"".join((_SIZES.pack(self.timestamp, *sizes), key or b"", value or b"", headers))


class FetchedBatch(NamedTuple):
    """A batch of committed records."""

    producer_id: int
    codec: int
    stored_bytes: int
    records: list[tuple[int, CopiedRecord]]
    """Each with its offset."""


class ProducedBatch(NamedTuple):
    """What goes into one batch."""

    codec: int
    records: list[CopiedRecord]


def committed_batches(
    records: Buffer, aborted: Iterable[Any], start: int, before: int
) -> Iterator[tuple[int, FetchedBatch | None]]:
    """Yield the offset behind each fetched batch, and what of it is committed and in `start` to `before`, if anything.

    `aborted` is the answer's list of aborted transactions: producer id, and first offset (KIP-98). As in Kafka's own
    consumer, such a producer's batches don't count from there up to its marker.

    :raises BatchRefused: a batch isn't one.
    """
    waiting = sorted(aborted or (), key=lambda each: each.first_offset, reverse=True)
    dropped: set[int] = set()
    for view in split_batches(records):
        header = read_header(view)
        while waiting and waiting[-1].first_offset <= header.last_offset:
            dropped.add(waiting.pop().producer_id)
        if header.is_control:
            if header.record_count:
                check_control_batch(view)
            dropped.discard(header.producer_id)
            yield header.next_offset, None
            continue
        if header.is_transactional and header.producer_id in dropped:
            yield header.next_offset, None
            continue
        found = [each for each in records_of(view) if start <= each[0] < before]
        yield header.next_offset, FetchedBatch(header.producer_id, header.codec, len(view), found) if found else None


def records_of(view: memoryview) -> Iterator[tuple[int, CopiedRecord]]:
    """Yield a batch's records, each with its offset. Raises BatchRefused."""
    header = read_header(view)
    section: Buffer = view[HEADER_LENGTH:]
    if header.codec:
        section = compression.decompress(header.codec, section, MAX_DECOMPRESSED)
    broker_time = header.max_timestamp if header.is_log_append_time else None
    base_time, base_offset = header.base_timestamp, header.base_offset
    for delta, offset_delta, key, value, headers in read_records(
        bytes(section), header.record_count, header.last_offset_delta
    ):
        stamp = base_time + delta if broker_time is None else broker_time
        yield base_offset + offset_delta, CopiedRecord(stamp, key, value, headers)


def gathered(batches: Iterable[FetchedBatch], most_bytes: int, most_records: int = MOST_RECORDS) -> list[ProducedBatch]:
    """Return the records in batches of the size that producers send, each compressed as most of it was."""
    made: list[ProducedBatch] = []
    size = 0
    for batch in batches:
        for _, record in batch.records:
            weight = len(record.key or b"") + len(record.value or b"") + len(record.headers)
            is_full = size + weight > most_bytes or (made and len(made[-1].records) >= most_records)
            if not made or made[-1].codec != batch.codec or (is_full and made[-1].records):
                made.append(ProducedBatch(batch.codec, []))
                size = 0
            made[-1].records.append(record)
            size += weight
    return made


def encode_batch(batch: ProducedBatch, *, producer_id: int, producer_epoch: int, base_sequence: int) -> bytes:
    """Return a transactional batch as a producer sends it."""
    base_time = batch.records[0].timestamp
    pieces: list[bytes] = []
    for place, record in enumerate(batch.records):
        pieces += write_record(record.timestamp - base_time, place, record.key, record.value, record.headers)
    section = b"".join(pieces)
    if batch.codec:
        section = compression.compress(batch.codec, section)
    header = write_header(
        records=[section],
        base_offset=0,
        partition_leader_epoch=-1,
        attributes=batch.codec | TRANSACTIONAL,
        last_offset_delta=len(batch.records) - 1,
        base_timestamp=base_time,
        max_timestamp=max(record.timestamp for record in batch.records),
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        base_sequence=base_sequence,
        record_count=len(batch.records),
    )
    return header + section
