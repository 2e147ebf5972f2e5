"""Refused batches of idempotent producers, and the batches behind them.

A producer keeps several batches in flight. If one is refused here and the next one is stored, the broker has seen a
gap: librdkafka turns fatal, and others would store out of order. So what follows a refused batch is refused too, as
the broker itself would do it, until the producer sends the refused one again (KIP-98, KIP-360).
"""

from kveil.protocol.kafka.primitives import Buffer
from kveil.protocol.kafka.record_batch import HEADER_LENGTH, BatchHeader, read_header

_SEQUENCES = 2**31
"""Sequences begin again at 0 after 2^31 - 1."""


class RefusedSequences:
    """The first refused batch of each partition on one connection. A topic is its name or its id, as in the request."""

    def __init__(self) -> None:
        self._first: dict[tuple[str | bytes, int], tuple[int, int, int]] = {}

    def __bool__(self) -> bool:
        return bool(self._first)

    def note(self, topic: str | bytes, partition: int, records: Buffer) -> None:
        """Take note that a batch was refused."""
        header = _idempotent(records)
        if header and not self.is_behind(topic, partition, records):
            self._first[topic, partition] = (header.producer_id, header.producer_epoch, header.base_sequence)

    def is_behind(self, topic: str | bytes, partition: int, records: Buffer) -> bool:
        """Whether a batch comes after a refused one. The refused one itself, sent again, ends the matter."""
        first = self._first.get((topic, partition))
        header = _idempotent(records)
        if first is None or header is None:
            return False
        producer_id, producer_epoch, sequence = first
        if (producer_id, producer_epoch) != (header.producer_id, header.producer_epoch):
            del self._first[topic, partition]
            return False
        distance = (header.base_sequence - sequence) % _SEQUENCES
        if distance == 0:
            del self._first[topic, partition]
            return False
        return distance < _SEQUENCES // 2


def _idempotent(records: Buffer) -> BatchHeader | None:
    """Return the header that a record set claims to have, None if it has no sequence."""
    header = read_header(records) if len(records) >= HEADER_LENGTH else None
    return header if header and header.producer_id >= 0 else None
