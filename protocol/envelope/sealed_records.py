"""A fetched batch of record mode before it is opened: its envelopes, found without a key (FORMAT.md, section 10).

Records of one writer's batch share most of an envelope's header. A replicator or the broker may have put records of
many batches together.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from kveil.protocol.envelope import registry
from kveil.protocol.envelope.compiled import loops
from kveil.protocol.envelope.errors import NotSealed, Reason, Unopenable
from kveil.protocol.envelope.header import KeyBlock
from kveil.protocol.envelope.origin import Origin, SealedRecord, find_envelope
from kveil.protocol.envelope.sealed_batch import MAX_PLAINTEXT
from kveil.protocol.kafka import compression
from kveil.protocol.kafka.compression import MAX_DECOMPRESSED
from kveil.protocol.kafka.errors import CorruptBatch, InvalidRecord
from kveil.protocol.kafka.record_batch import HEADER_LENGTH, MAGIC, MAX_RECORDS, BatchHeader
from kveil.protocol.kafka.records import read_headers, read_records


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RecordSealedBatch:
    """A batch of sealed records, parsed and not yet opened. Nothing in it is authenticated."""

    header: BatchHeader
    origins: list[Origin]
    records: list[SealedRecord] = field(repr=False)
    digests: list[bytes] = field(default_factory=list, repr=False)
    """Of the records' envelopes, in their order, put here by `unseal_records` if any has a position or a signature;
    empty for those that have none."""

    @property
    def keys(self) -> list[tuple[bytes, KeyBlock]]:
        """The distinct epoch keys that it takes to open this."""
        return list(dict.fromkeys((origin.kid, origin.says.block) for origin in self.origins))


def peek_records(batch: memoryview, header: BatchHeader) -> RecordSealedBatch:
    """Parses one fetched batch, `header` being its `read_header`. Raises Unopenable, or NotSealed if no record at
    all has an envelope.

    Not for control batches and batches without records: those have checks of their own (`record_batch`).
    """
    if header.magic != MAGIC or header.is_control or not 1 <= header.record_count <= MAX_RECORDS:
        raise Unopenable(Reason.BATCH)
    section = section_of(batch, header.codec)
    try:
        return peek_section(section, header)
    except InvalidRecord:
        raise Unopenable(Reason.RECORDS) from None


def section_of(batch: memoryview, codec: int) -> bytes:
    """A fetched batch's records section, without compression. Raises Unopenable."""
    data = batch[HEADER_LENGTH:]
    if codec == compression.NONE:
        return bytes(data)
    try:
        return bytes(compression.decompress(codec, data, MAX_DECOMPRESSED))
    except CorruptBatch:
        raise Unopenable(Reason.OUTER_CODEC) from None


def peek_section(section: bytes, header: BatchHeader) -> RecordSealedBatch:
    """The same of a records section without compression. Raises InvalidRecord too."""
    origins: dict[tuple[bytes, bytes], Origin] = {}
    try:
        records = loops.find_each(section, header.record_count, header.last_offset_delta, origins, MAX_PLAINTEXT)
    except NotSealed:
        if _any_sealed(section, header):
            raise Unopenable(Reason.MIXED) from None
        raise
    return RecordSealedBatch(header=header, origins=list(origins.values()), records=records)


def _any_sealed(section: bytes, header: BatchHeader) -> bool:
    for _, _, _, value, headers in read_records(section, header.record_count, header.last_offset_delta):
        envelope, _ = find_envelope(value, read_headers(headers)[0])
        if envelope.startswith(registry.MAGIC):
            return True
    return False
