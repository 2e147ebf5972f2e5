"""Refused batches of idempotent producers, and the batches behind them.

A producer keeps several batches in flight. If one is refused here and the next one is stored, the broker has seen a
gap: librdkafka turns fatal, and others would store out of order. So what follows a refused batch is refused too, as
the broker itself would do it, until the producer sends the refused one again (KIP-98, KIP-360).
"""

from kveil.protocol.kafka.record_batch import BatchHeader

_SEQUENCES = 2**31
"""Sequences begin again at 0 after 2^31 - 1."""


class RefusedSequences:
    """The first refused batch of each partition on one connection."""

    def __init__(self) -> None:
        self._first: dict[tuple[str, int], tuple[int, int, int]] = {}

    def __bool__(self) -> bool:
        return bool(self._first)

    def note(self, topic: str, partition: int, header: BatchHeader) -> None:
        """Take note that a batch was refused."""
        if header.producer_id >= 0 and not self.is_behind(topic, partition, header):
            self._first[topic, partition] = (header.producer_id, header.producer_epoch, header.base_sequence)

    def is_behind(self, topic: str, partition: int, header: BatchHeader) -> bool:
        """Whether a batch comes after a refused one. The refused one itself, sent again, ends the matter."""
        first = self._first.get((topic, partition))
        if first is None or header.producer_id < 0:
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
