"""One partition's lookup by time: from the broker's answer, which is early, to the record that the client means.

A broker finds the right batch, but sees one timestamp for all of its records, their maximum, and so answers with the
first of them. Here the batch is opened, and the record found as a broker would find it in a plain batch
(FileRecords.searchForTimestamp and RecordBatch.offsetOfMaxTimestamp of Apache Kafka 4.3):

- for a timestamp: the first record from the answered offset on that is not older; if this batch has none, which
  happens where the log starts in the middle of it, the next batch that has one.
- for the maximum (KIP-734): the batch's first record that has the maximum, even if the log starts behind it.

Whatever goes wrong, the broker's answer stays: early, never late.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from kveil.protocol.kafka.errors import BatchRefused, CorruptBatch
from kveil.protocol.kafka.record_batch import BatchHeader, read_header, split_batches
from kveil.protocol.kafka.record_timestamps import record_timestamps
from kveil.proxy.apis.opening import FetchedRecords, Room
from kveil.proxy.context import Connection
from kveil.proxy.errors import Refused
from kveil.proxy.needs import Need, ReadRecords, RecordsNeed
from kveil.proxy.policy import Rule

MAX_TIMESTAMP = -3
"""What a client asks for instead of a timestamp to find the record with the largest one (KIP-734)."""

MAX_READS = 8
"""How often one partition is read. One read finds the record but for a log that starts in the middle of a batch."""

FURTHER_BYTES = 1024 * 1024
"""What is read at a time behind the first batch."""

_LAST_TIMESTAMP = 2**63 - 1
_LAST_OFFSET = 2**63 - 2**32
"""For the start of a batch: whatever its records' deltas, their offsets are still numbers of 64 bits."""


class Place(NamedTuple):
    """An answer as ListOffsets has it; -1 in each for none."""

    offset: int
    timestamp: int
    leader_epoch: int


NOWHERE = Place(-1, -1, -1)


class LookupFailed(Exception):
    """The record can't be found; the message says why."""


class TimeLookup:
    """The search in one partition."""

    def __init__(
        self,
        *,
        topic: str,
        partition: int,
        timestamp: int,
        answered: int,
        isolation_level: int,
        rule: Rule,
        connection: Connection,
    ) -> None:
        self.topic = topic
        self.partition = partition
        self.bytes_read = 0
        self.found: Place | None = None
        """The answer, None as long as the broker's stands."""
        self.is_done = False
        self._timestamp = timestamp
        self._answered = self._position = answered
        self._isolation_level = isolation_level
        self._rule = rule
        self._connection = connection
        self._reads = 0
        self._end = 0
        self._batches: Iterator[memoryview] = iter(())
        self._candidate: tuple[BatchHeader, FetchedRecords] | None = None

    def needs(self, read: dict[RecordsNeed, ReadRecords], failures: Mapping[Need, Exception]) -> list[Need]:
        """Go on, and return what is missing for more: nothing once it is done.

        :raises LookupFailed: the broker's answer is to stay.
        """
        while not self.is_done:
            if self._candidate is not None:
                missing = self._search(*self._candidate, failures)
            elif not self._next_candidate():
                missing = self._read_on(read, failures)
            else:
                continue
            if missing:
                return missing
        return []

    def give_up(self) -> None:
        """Leave the broker's answer, and let go of what was read."""
        self.is_done = True
        self._batches, self._candidate = iter(()), None

    def _finish(self, place: Place) -> None:
        self.give_up()
        self.found = place

    # Reading -----------------------------------------------------------------------------------------------------

    def _read_on(self, read: dict[RecordsNeed, ReadRecords], failures: Mapping[Need, Exception]) -> list[Need]:
        """Take the records from the position on, or return the need of them."""
        if self._reads and 0 <= self._end <= self._position:
            self._finish(NOWHERE)
            return []
        need = RecordsNeed(
            self.topic, self.partition, self._position, self._isolation_level, FURTHER_BYTES if self._reads else 1
        )
        if need in failures:
            raise LookupFailed(str(failures[need]))
        if need not in read:
            if self._reads == MAX_READS:
                raise LookupFailed(f"not found in {MAX_READS} reads")
            return [need]
        got = read.pop(need)
        self._reads += 1
        self.bytes_read += len(got.records)
        self._position, self._end = max(self._position, got.start), got.end
        self._batches = split_batches(got.records)
        if not self._next_candidate() and self._position == need.offset:
            raise LookupFailed("the broker gave no batch from there on")
        return []

    def _next_candidate(self) -> bool:
        """Step over the batches that can't hold the record. False at the end of what was read."""
        try:
            for view in self._batches:
                header = read_header(view)
                if header.last_offset < self._position:
                    continue
                if header.base_offset > _LAST_OFFSET:
                    raise LookupFailed("an offset out of range")
                if self._may_hold(header):
                    records = FetchedRecords(
                        view,
                        topic=self.topic,
                        partition=self.partition,
                        rule=self._rule,
                        connection=self._connection,
                    )
                    self._candidate = header, records
                    return True
                self._position = header.next_offset
        except CorruptBatch as error:
            raise LookupFailed(str(error)) from error
        return False

    def _may_hold(self, header: BatchHeader) -> bool:
        if self._timestamp != MAX_TIMESTAMP:
            return header.max_timestamp >= self._timestamp
        if header.base_offset > self._answered:
            raise LookupFailed("the broker gave another batch than it had answered with")
        return True

    # Searching ---------------------------------------------------------------------------------------------------

    def _search(self, header: BatchHeader, records: FetchedRecords, failures: Mapping[Need, Exception]) -> list[Need]:
        """Look into the candidate, or return the needs of its keys."""
        missing = records.needs(failures)
        if missing:
            return missing
        try:
            place = self._find(b"".join(records.open(Room(), whole=True)))
        except (Refused, BatchRefused) as error:
            raise LookupFailed(str(error)) from error
        if place is not None:
            self._finish(place)
            return []
        if self._timestamp == MAX_TIMESTAMP:
            raise LookupFailed("no record has the timestamp that the batch's header names")
        self._candidate = None
        self._position = header.next_offset
        return []

    def _find(self, batch: bytes) -> Place | None:
        header = read_header(batch)
        if self._timestamp == MAX_TIMESTAMP:
            least, first = header.max_timestamp, header.base_offset
        else:
            least, first = self._timestamp, self._position
        for offset, timestamp in record_timestamps(batch):
            if least <= timestamp <= _LAST_TIMESTAMP and offset >= first:
                return Place(offset, timestamp, header.partition_leader_epoch)
        return None
