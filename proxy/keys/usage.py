"""Which key versions a topic's envelopes still need. They are counted as they are read, and never opened.

Nothing in an envelope is authenticated before it is opened, so what is counted is the broker's word: it can make a
version look needed that isn't, or hold batches back.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from kveil.protocol.envelope.batch import peek
from kveil.protocol.envelope.errors import EnvelopeError, NotSealed, OtherMode
from kveil.protocol.envelope.header import KeyBlock
from kveil.protocol.envelope.record import peek_records
from kveil.protocol.kafka.errors import BatchRefused
from kveil.protocol.kafka.record_batch import MAGIC, BatchHeader, read_header

MOST_KEYS: Final = 4_096
"""A broker may invent names and versions. Beyond this many, batches count as unreadable."""

_MAGIC_AT = 16


class KeyVersionRef(NamedTuple):
    """A version of a key, as envelopes name it. The version is empty where the service doesn't say."""

    provider: int
    name: str
    version: str


@dataclass(slots=True, kw_only=True)
class Found:
    """Where batches stand in one partition. Timestamps are the batches' latest, in ms since 1970."""

    batches: int = 0
    records: int = 0
    first_offset: int = 0
    last_offset: int = 0
    oldest: int = 0
    newest: int = 0

    def add(self, header: BatchHeader, records: int) -> None:
        """One more batch, which comes behind the others."""
        stamp = header.max_timestamp
        if not self.batches:
            self.first_offset, self.oldest, self.newest = header.base_offset, stamp, stamp
        self.batches += 1
        self.records += records
        self.last_offset = header.last_offset
        self.oldest = min(self.oldest, stamp)
        self.newest = max(self.newest, stamp)


ByPartition = dict[int, Found]


class Usage:
    """What was found in one topic."""

    def __init__(self) -> None:
        self.keys: dict[KeyVersionRef, ByPartition] = {}
        self.plain: ByPartition = {}
        self.unreadable: ByPartition = {}

    def add(self, partition: int, batch: memoryview) -> None:
        """Count one whole fetched batch."""
        if batch[_MAGIC_AT] != MAGIC:
            return  # older than sealing
        header = read_header(batch)
        if header.is_control or header.record_count == 0:
            return
        try:
            needed = _needed(batch, header)
        except NotSealed:
            _add(self.plain, partition, header, header.record_count)
            return
        except (EnvelopeError, BatchRefused):
            needed = {}
        if not needed or len(self.keys.keys() | needed.keys()) > MOST_KEYS:
            _add(self.unreadable, partition, header, header.record_count)
            return
        for key, records in needed.items():
            _add(self.keys.setdefault(key, {}), partition, header, records)


def _needed(batch: memoryview, header: BatchHeader) -> Mapping[KeyVersionRef, int]:
    """How many records need which key. Raises NotSealed, or what else is wrong with the batch."""
    try:
        return {_ref(peek(batch, header).block): header.record_count}
    except (OtherMode, NotSealed):  # the first record is plain: are all of them?
        origins = Counter(origin for origin, *_ in peek_records(batch, header).records)
    needed: Counter[KeyVersionRef] = Counter()
    for origin, records in origins.items():
        needed[_ref(origin.says.block)] += records
    return needed


def _ref(block: KeyBlock) -> KeyVersionRef:
    return KeyVersionRef(block.provider, block.name, block.version)


def _add(where: ByPartition, partition: int, header: BatchHeader, records: int) -> None:
    where.setdefault(partition, Found()).add(header, records)
