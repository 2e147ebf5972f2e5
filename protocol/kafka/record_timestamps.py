"""The offset and the timestamp of each record of a batch."""

from collections.abc import Iterator

from kveil.protocol.kafka.compression import MAX_DECOMPRESSED, NONE, decompress
from kveil.protocol.kafka.primitives import Buffer
from kveil.protocol.kafka.record_batch import HEADER_LENGTH, read_header
from kveil.protocol.kafka.records import read_records


def record_timestamps(batch: Buffer) -> Iterator[tuple[int, int]]:
    """Yield (offset, timestamp in ms) of each record of a whole batch of magic 2, in order.

    Under LogAppendTime the batch's maxTimestamp stands for every record, as Kafka's own readers have it.
    Decompressing is bounded by `MAX_DECOMPRESSED`.

    :raises BatchRefused: the records don't decompress, or aren't what the header says.
    """
    header = read_header(batch)
    section = memoryview(batch)[HEADER_LENGTH:]
    if header.codec != NONE:
        section = decompress(header.codec, section, MAX_DECOMPRESSED)
    for delta, offset_delta, *_ in read_records(bytes(section), header.record_count, header.last_offset_delta):
        stamp = header.max_timestamp if header.is_log_append_time else header.base_timestamp + delta
        yield header.base_offset + offset_delta, stamp
