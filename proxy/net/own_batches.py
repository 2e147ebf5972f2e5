"""Batches that the proxy itself produces: uncompressed, and plain until the way to the broker seals them."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from kveil.protocol.kafka.record_batch import NO_PRODUCER_ID, NO_SEQUENCE, write_header


class Numbered(NamedTuple):
    """Who produces, and the number of the first record (KIP-98)."""

    producer_id: int = NO_PRODUCER_ID
    epoch: int = -1
    first: int = NO_SEQUENCE


NOT_NUMBERED: Final = Numbered()


def own_batch(written: Sequence[bytes], count: int, timestamp_ms: int, numbered: Numbered = NOT_NUMBERED) -> bytes:
    """Return a batch of records, given as `write_record` makes them, all of one time."""
    section = b"".join(written)
    header = write_header(
        records=[section],
        base_offset=0,
        partition_leader_epoch=-1,
        attributes=0,
        last_offset_delta=count - 1,
        base_timestamp=timestamp_ms,
        max_timestamp=timestamp_ms,
        producer_id=numbered.producer_id,
        producer_epoch=numbered.epoch,
        base_sequence=numbered.first,
        record_count=count,
    )
    return header + section
