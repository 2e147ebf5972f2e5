"""RecordBatch v2: its 61-byte header, splitting fetched data, and the checks of either direction.

Layout (KIP-98; big-endian, offsets from the start of the batch):

    0  baseOffset 8 | 8 batchLength 4 | 12 partitionLeaderEpoch 4 | 16 magic 1 | 17 crc 4 | 21 attributes 2 |
    23 lastOffsetDelta 4 | 27 baseTimestamp 8 | 35 maxTimestamp 8 | 43 producerId 8 | 51 producerEpoch 2 |
    53 baseSequence 4 | 57 count 4 | 61 records

batchLength counts from partitionLeaderEpoch on, the CRC-32C covers everything from attributes on. Attributes:
bits 0-2 codec, 3 LogAppendTime, 4 transactional, 5 control, 6 delete horizon (set by the log cleaner only).

A batch is checked before it is sealed (`check_produced`), because the broker, which would do it otherwise,
sees ciphertext only: sealed garbage would be stored and stop every consumer of the partition.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple

from crc32c import crc32c

from kveil.protocol.kafka import compression
from kveil.protocol.kafka.errors import CorruptBatch, InvalidRecord
from kveil.protocol.kafka.primitives import Buffer
from kveil.protocol.kafka.varint import read_varint, read_varlong

HEADER_LENGTH = 61
LOG_OVERHEAD = 12  # baseOffset and batchLength, which batchLength itself does not count
CRC_FROM = 21  # the checksum covers the batch from here on
MAGIC = 2

CODEC_MASK = 0x07
LOG_APPEND_TIME = 0x08
TRANSACTIONAL = 0x10
CONTROL = 0x20
PRODUCED_ATTRIBUTES = CODEC_MASK | LOG_APPEND_TIME | TRANSACTIONAL
HIGHEST_CODEC = 4

NO_PRODUCER_ID = -1
NO_SEQUENCE = -1
NO_TIMESTAMP = -1

# The smallest record: length, attributes, timestamp delta, offset delta, two absent lengths, no headers.
SMALLEST_RECORD = 7
# A compressed batch of a few bytes can claim 2^31 records, and each becomes a stub of up to 9 bytes.
# librdkafka caps its own setting at 1,000,000.
MAX_RECORDS = 1 << 20

# A batch of magic 0 or 1 is a single message: crc, magic, attributes, key length, value length.
_SMALLEST_LEGACY_LENGTH = 14
_SMALLEST_LENGTH = HEADER_LENGTH - LOG_OVERHEAD

_HEADER = Struct(">qiibIhiqqqhii")
_LENGTH = Struct(">i")
FRONT = Struct(">qiibI")  # up to and with the checksum
COVERED = Struct(">hiqqqhii")  # the rest of the header, which the checksum covers

_MARKER_KEY = Struct(">hh")
_MARKER_VALUE = Struct(">hi")
_ABORT, _COMMIT = 0, 1


class BatchHeader(NamedTuple):
    """The header of one batch, fields as on the wire; the checksum is what stood there, checked or not."""

    base_offset: int
    batch_length: int
    partition_leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    record_count: int

    @property
    def codec(self) -> int:
        """Compression codec: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd."""
        return self.attributes & CODEC_MASK

    @property
    def is_transactional(self) -> bool:
        """Whether the batch belongs to a transaction."""
        return self.attributes & TRANSACTIONAL != 0

    @property
    def is_control(self) -> bool:
        """Whether the batch holds a marker of the broker instead of records."""
        return self.attributes & CONTROL != 0

    @property
    def is_log_append_time(self) -> bool:
        """Whether maxTimestamp is the broker's and stands for every record."""
        return self.attributes & LOG_APPEND_TIME != 0

    @property
    def last_offset(self) -> int:
        """Offset of the last record, kept by the log cleaner even when that record is gone."""
        return self.base_offset + self.last_offset_delta

    @property
    def next_offset(self) -> int:
        """Where a consumer goes on after this batch."""
        return self.base_offset + self.last_offset_delta + 1


def read_header(buf: Buffer, pos: int = 0) -> BatchHeader:
    """The header at `pos`, unchecked. Raises CorruptBatch if there are fewer than 61 bytes."""
    if len(buf) - pos < HEADER_LENGTH:
        raise CorruptBatch("batch shorter than its header")
    return BatchHeader._make(_HEADER.unpack_from(buf, pos))


def write_header(
    *,
    records: list[Buffer],
    base_offset: int,
    partition_leader_epoch: int,
    attributes: int,
    last_offset_delta: int,
    base_timestamp: int,
    max_timestamp: int,
    producer_id: int,
    producer_epoch: int,
    base_sequence: int,
    record_count: int,
) -> bytes:
    """The 61-byte header for a records section given in pieces; length and CRC-32C are computed from them."""
    covered = COVERED.pack(attributes, last_offset_delta, base_timestamp, max_timestamp, producer_id,
                           producer_epoch, base_sequence, record_count)  # fmt: skip
    crc = crc32c(covered)
    length = _SMALLEST_LENGTH
    for piece in records:
        crc = crc32c(piece, crc)
        length += len(piece)
    return FRONT.pack(base_offset, length, partition_leader_epoch, MAGIC, crc) + covered


def compressed_batch(header: BatchHeader, codec: int, records: Buffer) -> list[Buffer]:
    """The batch of an uncompressed records section with the section compressed: its header, the section."""
    packed = compression.compress(codec, records)
    fields = header._replace(attributes=header.attributes & ~CODEC_MASK | codec)._asdict()
    for computed in ("batch_length", "magic", "crc"):
        del fields[computed]
    return [write_header(records=[packed], **fields), packed]


def split_batches(records: Buffer) -> Iterator[memoryview]:
    """Each complete batch of fetched data, in order, of whatever magic (refusing one is the caller's part).

    The last batch may be cut anywhere (a broker fills up to a byte limit): it is dropped. A length that no
    batch can have raises CorruptBatch, after the batches before it were given out.
    """
    view = memoryview(records)
    pos, end = 0, len(view)
    while end - pos >= LOG_OVERHEAD:
        (length,) = _LENGTH.unpack_from(view, pos + 8)
        if length < _SMALLEST_LEGACY_LENGTH:
            raise CorruptBatch("batch length below any batch's")
        following = pos + LOG_OVERHEAD + length
        if following > end:
            return
        if view[pos + 16] >= MAGIC and length < _SMALLEST_LENGTH:
            raise CorruptBatch("batch length below the header's")
        yield view[pos:following]
        pos = following


def check_produced(view: memoryview) -> BatchHeader:
    """The header of a producer's record set, after every check that a broker would have made on it.

    A record set is exactly one batch of magic 2 (Produce from version 3 on). Its base offset is ignored, as
    by a broker, which assigns its own. Raises CorruptBatch or InvalidRecord.
    """
    if not len(view):
        raise InvalidRecord("no batch")
    if len(view) > 16 and view[16] != MAGIC:
        raise InvalidRecord("not magic 2")
    header = read_header(view)
    whole = LOG_OVERHEAD + header.batch_length
    if header.batch_length < _SMALLEST_LENGTH or whole > len(view):
        raise CorruptBatch("length of the batch is not what was sent")
    if whole < len(view):
        raise InvalidRecord("more than one batch")
    if not is_checksum_right(view, header):
        raise CorruptBatch("checksum")
    _check_produced_fields(header, len(view) - HEADER_LENGTH)
    return header


def is_checksum_right(view: memoryview, header: BatchHeader) -> bool:
    """Whether the bytes of a whole batch are those that its header was written for."""
    return crc32c(view[CRC_FROM:]) == header.crc


def _check_produced_fields(header: BatchHeader, records_length: int) -> None:
    """The rules of a broker's validator on the fields themselves (rules R2 and R3)."""
    attributes, count = header.attributes, header.record_count
    if attributes & ~PRODUCED_ATTRIBUTES:
        raise InvalidRecord("control or unknown attribute bits")
    if attributes & CODEC_MASK > HIGHEST_CODEC:
        raise InvalidRecord("unknown codec")
    if not 1 <= count <= MAX_RECORDS:
        raise InvalidRecord("record count out of range")
    if header.last_offset_delta != count - 1:
        raise InvalidRecord("record count and offsets disagree")
    if attributes & CODEC_MASK == 0 and records_length < count * SMALLEST_RECORD:
        raise InvalidRecord("fewer bytes than records")
    if header.producer_id == NO_PRODUCER_ID:
        # Some clients leave epoch and sequence at 0 here, and a broker looks at neither.
        if attributes & TRANSACTIONAL:
            raise InvalidRecord("transactional without a producer id")
    elif header.producer_id < 0 or header.producer_epoch < 0 or header.base_sequence < 0:
        raise InvalidRecord("producer id, epoch or sequence out of range")


def empty_batch(
    base_offset: int,
    last_offset: int,
    *,
    partition_leader_epoch: int = -1,
    max_timestamp: int = NO_TIMESTAMP,
) -> bytes:
    """A batch without records over both offsets, as the log cleaner leaves one: consumers step over it."""
    return write_header(
        records=[],
        base_offset=base_offset,
        partition_leader_epoch=partition_leader_epoch,
        attributes=0,
        last_offset_delta=last_offset - base_offset,
        base_timestamp=NO_TIMESTAMP,
        max_timestamp=max_timestamp,
        producer_id=NO_PRODUCER_ID,
        producer_epoch=-1,
        base_sequence=NO_SEQUENCE,
        record_count=0,
    )


def _exact(view: memoryview) -> BatchHeader:
    """The header of a fetched batch of magic 2 whose length is the view's. Raises CorruptBatch."""
    header = read_header(view)
    if header.magic != MAGIC or LOG_OVERHEAD + header.batch_length != len(view):
        raise CorruptBatch("not exactly one batch of magic 2")
    return header


def check_empty_batch(view: memoryview) -> BatchHeader:
    """Passes a fetched batch of count 0 only if it is a header alone. Raises CorruptBatch.

    Bytes behind such a header would be plain data that a broker slipped past the opener.
    """
    header = _exact(view)
    if header.record_count != 0 or len(view) != HEADER_LENGTH:
        raise CorruptBatch("record bytes in a batch of count 0")
    return header


def check_control_batch(view: memoryview) -> bool:
    """Passes a fetched control batch only if it is one end-of-transaction marker, to the byte, and returns whether
    the transaction was committed. Raises CorruptBatch.

    Key: version 0 (2), type (2) 0 ABORT or 1 COMMIT. Value: version 0 (2), coordinator epoch (4). KRaft's own
    control types stand in `__cluster_metadata` only, which is plain without a rule. The checksum and the
    timestamps are not looked at: the client does the first, and a log cleaner rewrites the second.
    """
    header = _exact(view)
    if not header.is_control or header.codec or header.record_count != 1 or header.last_offset_delta:
        raise CorruptBatch("control batch is not one plain record")
    length, body = read_varint(view, HEADER_LENGTH)
    _, pos = read_varlong(view, body + 1)
    offset_delta, pos = read_varint(view, pos)
    key_length, pos = read_varint(view, pos)
    value_length, after = read_varint(view, pos + _MARKER_KEY.size)
    exact = (
        body + length == len(view) == after + _MARKER_VALUE.size + 1
        and offset_delta == 0
        and key_length == _MARKER_KEY.size
        and value_length == _MARKER_VALUE.size
        and view[-1] == 0  # no headers
    )
    if not exact:
        raise CorruptBatch("control record has another layout than a marker")
    key_version, kind = _MARKER_KEY.unpack_from(view, pos)
    value_version, _ = _MARKER_VALUE.unpack_from(view, after)
    if key_version != 0 or value_version != 0 or kind not in (_ABORT, _COMMIT):
        raise CorruptBatch("control record of an unknown type")
    return bool(kind == _COMMIT)
