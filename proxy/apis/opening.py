"""One partition's fetched records: which keys they need, and the records opened.

What a reader must refuse is refused here, also what a hostile broker could dress plain data as: old formats, control
batches with foreign content, empty batches with bytes behind them (R2). The batches before the first that doesn't
open are delivered; the error comes when it is the first (R5).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

from kveil.protocol.envelope.batch import SealedBatch, peek, unseal
from kveil.protocol.envelope.errors import EnvelopeError, NotSealed, OtherMode
from kveil.protocol.envelope.header import KeyBlock
from kveil.protocol.envelope.key_schedule import EpochKey
from kveil.protocol.envelope.record import RecordSealedBatch, peek_records, unseal_records
from kveil.protocol.envelope.record_keyed import IsItsKey, unseal_around
from kveil.protocol.kafka.aborted import Outcome
from kveil.protocol.kafka.errors import BatchRefused, CorruptBatch
from kveil.protocol.kafka.primitives import Buffer
from kveil.protocol.kafka.record_batch import (
    MAGIC,
    BatchHeader,
    check_control_batch,
    check_empty_batch,
    compressed_batch,
    empty_batch,
    read_header,
    split_batches,
)
from kveil.proxy.admin.audit import Cause, audit
from kveil.proxy.apis.positions import Reading, check_end
from kveil.proxy.context import Connection
from kveil.proxy.errors import ErrorCode, Refused
from kveil.proxy.keys.errors import KeyDenied, KeyErased, KeyRefused, KeyUnavailable
from kveil.proxy.keys.streams import End
from kveil.proxy.log import log_limited
from kveil.proxy.needs import HidingKeyNeed, Need, OpeningKeyNeed
from kveil.proxy.policy import Rule

_MAGIC_AT = 16

UNOPENED = "a batch can't be opened: see the log of the proxy"
"""The one text for every envelope that doesn't open; the reason is for the log alone."""

RESTORED_BYTES = 32 * 1024 * 1024
"""With the 50 MiB that a consumer fetches by default well below what any client takes."""

STEP_BYTES = 4 * 1024 * 1024
"""What is opened without a pause: some 5 ms, for which other connections wait. Most answers are below it."""

_Refusal = EnvelopeError | BatchRefused | KeyRefused
_REFUSALS = (EnvelopeError, BatchRefused, KeyRefused)


_Place = tuple[bytes, KeyBlock]
"""What an envelope says of its key."""


@dataclass(slots=True)
class _Batch:
    """One fetched batch and what a first look at it showed."""

    view: memoryview
    header: BatchHeader | None = None
    sealed: SealedBatch | RecordSealedBatch | None = None
    keys: dict[_Place, EpochKey] = field(default_factory=dict)
    """Found before the opening and kept: the ring may drop one meanwhile for another envelope's."""
    ends: dict[bytes, End] = field(default_factory=dict)
    """Of the keys whose producers were revoked: how far their batches count."""
    erased: dict[_Place, KeyErased] | None = None
    """Those whose records are delivered without values, as the rule says."""
    error: _Refusal | KeyDenied | KeyUnavailable | None = None
    opened: list[Buffer] | None = None
    """What it holds, if it was opened ahead."""
    is_commit: bool | None = None
    """Of a marker: whether it ends a transaction that is committed."""
    outcome: Outcome | None = None
    """What the answer says of the transaction that it belongs to, where that is looked at."""
    is_plain: bool = False
    """It has no envelope, and the rule lets it through."""


class Room:
    """How far the records of one answer may grow by losing the compression that they were fetched with.

    Clients close a connection on answers that are too large (librdkafka above 100,000,000 bytes). Beyond this, records
    are compressed again as they were.
    """

    def __init__(self) -> None:
        self._left = RESTORED_BYTES

    def take(self, pieces: list[Buffer], fetched: BatchHeader) -> list[Buffer]:
        """Return the batch, given as header and records, as it may be delivered."""
        size = sum(map(len, pieces))
        if not fetched.codec or size <= self._left:
            self._left -= size if fetched.codec else 0
            return pieces
        header, records = pieces
        return compressed_batch(read_header(header), fetched.codec, records)


class FetchedRecords:
    """The records of one partition in an answer, before and after opening."""

    __slots__ = ("_batches", "_connection", "_keys", "_partition", "_rule", "_topic", "reading")

    def __init__(
        self,
        records: memoryview,
        *,
        topic: str,
        partition: int,
        rule: Rule,
        connection: Connection,
        reading: Reading | None = None,
    ) -> None:
        self.reading = reading
        """Who judges its batches by their places, None where these say nothing."""
        self._topic = topic
        self._partition = partition
        self._rule = rule
        self._connection = connection
        self._keys = connection.shared.keys  # for all steps of the opening, also if a reload brings others meanwhile
        self._batches = list(self._read(records))
        if reading is not None:
            outcomes = reading.outcomes([(batch.header, batch.is_commit) for batch in self._batches])
            for batch, outcome in zip(self._batches, outcomes, strict=True):
                batch.outcome = outcome

    def _read(self, records: memoryview) -> Iterator[_Batch]:
        try:
            for view in split_batches(records):
                yield self._look(view)
        except CorruptBatch as error:
            yield _Batch(records[:0], error=error)

    def _look(self, view: memoryview) -> _Batch:
        batch = _Batch(view)
        try:
            if view[_MAGIC_AT] != MAGIC:
                raise CorruptBatch(f"a batch of magic {view[_MAGIC_AT]}, which can't be sealed")
            batch.header = header = read_header(view)
            if header.record_count == 0:  # of markers too: the log cleaner keeps the header of a producer's last batch
                check_empty_batch(view)
            elif header.is_control:
                batch.is_commit = check_control_batch(view)
            else:
                batch.sealed = self._peek(view, header)
        except NotSealed as error:
            batch.is_plain = batch.header is not None and self._admits_plain(batch.header)
            batch.error = None if batch.is_plain else error
        except _REFUSALS as error:
            batch.error = error
        return batch

    def _admits_plain(self, header: BatchHeader) -> bool:
        """Whether the rule lets a plain batch through here. One that spans the offset of `plain_before` is refused.

        The header's word is enough: a batch is found to be plain by way of all its records, and none is behind it.
        """
        return self._rule.accept_plain or header.last_offset < self._rule.plain_before.get(self._partition, 0)

    def _peek(self, view: memoryview, header: BatchHeader) -> SealedBatch | RecordSealedBatch:
        try:
            return peek(view, header)
        except OtherMode:
            return peek_records(view, header)
        except NotSealed:
            if self._admits_plain(header):  # the first record is plain: are all of them?
                return peek_records(view, header)
            raise

    @property
    def count(self) -> int:
        """How many records its batches say that they have."""
        return sum(batch.header.record_count for batch in self._batches if batch.header is not None)

    def needs(self, failures: Mapping[Need, Exception]) -> list[Need]:
        """Return the keys that are missing. A key that can't be had is noted at its batch."""
        needs: list[Need] = []
        for batch in self._batches:
            sealed = batch.sealed
            if sealed is None:
                continue
            try:
                for place in [(sealed.kid, sealed.block)] if isinstance(sealed, SealedBatch) else sealed.keys:
                    need = self._find_key(place, batch, failures)
                    if need is not None and need not in needs:
                        needs.append(need)
                if isinstance(sealed, RecordSealedBatch):
                    needs += [need for need in self._find_hiding_key(sealed, failures) if need not in needs]
            except (KeyRefused, KeyDenied, KeyUnavailable) as error:
                batch.error = error
        return needs

    def _find_key(self, place: _Place, batch: _Batch, failures: Mapping[Need, Exception]) -> Need | None:
        """Put the key of a place among the batch's if it is known, and return the need of it if not.

        :raises KeyRefused, KeyDenied, KeyUnavailable: it can't be had.
        """
        kid, block = place
        try:
            keys = self._connection.shared.keys_for(block.provider)
            key = keys.opening_key(self._topic, kid, block, self._rule)
        except KeyErased as error:
            if not self._rule.null_erased or isinstance(batch.sealed, SealedBatch):
                raise
            batch.erased = {**(batch.erased or {}), place: error}
            return None
        if key is not None:
            batch.keys[place] = key
            announced = self._connection.shared.announced_keys
            if keys is announced and (end := announced.end_of(self._topic, kid, block, self._rule)):
                batch.ends[kid] = end
            return None
        need = OpeningKeyNeed(self._topic, self._partition, kid, block, self._rule)
        if need in failures:
            raise failures[need]
        return need

    def _find_hiding_key(self, sealed: RecordSealedBatch, failures: Mapping[Need, Exception]) -> list[Need]:
        """Return the need of what hid the records' keys, if it isn't at hand and can be had.

        :raises KeyDenied, KeyUnavailable: it can't be had.
        """
        topic, wanted = self._rule.sealed_as or self._topic, self._keys.hiding_key_id
        if self._keys.hiding_key(topic) is not None or (wanted is None and not self._keys.awaits_hiding_key):
            return []
        named = {origin.says.hiding_key_id for origin in sealed.origins} - {None}
        if not named or (wanted is not None and wanted not in named):
            return []
        need = HidingKeyNeed(topic)
        if need in failures:
            raise failures[need]
        return [need]

    def open_ahead(self, room: Room) -> Iterator[int]:
        """Open batch after batch for a later `open`, and yield the length of each."""
        for batch in self._batches:
            try:
                batch.opened = self._open(batch, room)
            except (KeyDenied, KeyUnavailable, *_REFUSALS) as error:
                batch.error = error
            yield len(batch.view)

    def open(self, room: Room, *, whole: bool = False) -> list[Buffer]:
        """Return the opened batches up to the first that doesn't open; with `whole`, all or none.

        :raises Refused: there are none to return.
        """
        pieces: list[Buffer] = []
        for position, batch in enumerate(self._batches):
            try:
                opened = self._open(batch, room)
                self._judge(batch)
                self._count(batch, opened)
                pieces += opened
            except KeyUnavailable as error:
                if pieces and not whole:
                    break
                raise Refused(ErrorCode.KAFKA_STORAGE_ERROR, f"no key can be had to open with now: {error}") from error
            except KeyDenied as error:
                if pieces and not whole:
                    break
                raise Refused(ErrorCode.TOPIC_AUTHORIZATION_FAILED, f"the key may not be used: {error}") from error
            except _REFUSALS as error:
                if self._is_skipped(batch):
                    pieces.append(self._step_over(batch, error))
                    continue
                self._log_unopened(position, error)
                if pieces and not whole:
                    break
                raise Refused(ErrorCode.CORRUPT_MESSAGE, UNOPENED) from error
        return pieces

    def _open(self, batch: _Batch, room: Room) -> list[Buffer]:
        if batch.error is not None:
            raise batch.error
        if batch.opened is not None:
            return batch.opened
        rule, sealed = self._rule, batch.sealed
        if sealed is None:
            return [bytes(batch.view)]
        if isinstance(sealed, SealedBatch):
            key = batch.keys[sealed.kid, sealed.block]
            return unseal(sealed, key=key, partition=self._partition, any_partition=rule.any_partition)
        unseal_them = unseal_records
        if batch.erased:
            unseal_them = partial(unseal_around, batch.view, is_its_key=self._are_erased(batch.erased))
        pieces = unseal_them(
            sealed,
            keys=batch.keys,
            hiding=self._keys.hiding_key(rule.sealed_as or self._topic),
            partition=self._partition,
            any_partition=rule.any_partition,
            create_time_only=rule.create_time_only,
            extra_headers=rule.pass_headers,
        )
        return room.take(pieces, sealed.header)

    def _judge(self, batch: _Batch) -> None:
        """Look at the place of a batch that has opened. Raises EnvelopeError if it must not be delivered."""
        if batch.ends and batch.sealed is not None:
            check_end(batch.sealed, batch.ends, self._partition, any_partition=self._rule.any_partition)
        if self.reading is not None and batch.header is not None:
            self.reading.read(batch.header, batch.sealed, batch.outcome)

    def _are_erased(self, erased: Mapping[_Place, KeyErased]) -> Mapping[_Place, IsItsKey]:
        """Return, for each epoch key that is erased, how to tell whether a wire key is its record key's."""
        keys = self._connection.shared.record_keys
        if keys is None:
            raise AssertionError
        return {place: partial(keys.is_id_of, error.record_id, self._topic) for place, error in erased.items()}

    # What doesn't open -------------------------------------------------------------------------------------------

    def _is_skipped(self, batch: _Batch) -> bool:
        if batch.header is None:
            return False
        first, last = batch.header.base_offset, batch.header.last_offset
        skips = self._connection.shared.policy.skips(self._topic, self._partition)
        return first <= last and any(first in skip and last in skip for skip in skips)

    def _step_over(self, batch: _Batch, error: _Refusal) -> bytes:
        """Return an empty batch with the offsets of one that an operator wants stepped over."""
        header = batch.header
        if header is None:
            raise error
        audit(
            "records.skipped",
            f"{self._topic}/{self._partition}",
            self._connection.cause,
            first_offset=header.base_offset,
            last_offset=header.last_offset,
            reason=str(error),
        )
        return empty_batch(header.base_offset, header.last_offset, partition_leader_epoch=header.partition_leader_epoch)

    def _count(self, batch: _Batch, opened: list[Buffer]) -> None:
        """Count what is delivered, and audit what is plain, once in a while for a partition."""
        if batch.sealed is not None:
            self._connection.shared.metrics.count_opened(self._topic, batch.sealed.header.record_count, opened)
        elif batch.is_plain and batch.header is not None:
            log_limited(
                partial(_audit_plain, self._topic, self._connection.cause),
                "plain.passed",
                key=(self._topic, self._partition),
                partition=self._partition,
                first_offset=batch.header.base_offset,
                last_offset=batch.header.last_offset,
                rule=self._connection.shared.policy.matched_by(self._topic),
            )

    def _log_unopened(self, position: int, error: _Refusal) -> None:
        header = self._batches[position].header
        following = self._next_good_offset(position + 1)
        log_limited(
            self._tell_unopened,
            "batch_unopened",
            key=(self._topic, self._partition, header and header.base_offset),
            topic=self._topic,
            partition=self._partition,
            first_offset=header.base_offset if header else None,
            last_offset=header.last_offset if header else None,
            next_good_offset=following,
            reason=str(error),
        )

    def _tell_unopened(self, event: str, **values: object) -> None:
        self._connection.log.error(event, **values)
        told = {name: value for name, value in values.items() if name not in {"topic", "partition"}}
        audit("batch.refused", f"{self._topic}/{self._partition}", self._connection.cause, **told)

    def _next_good_offset(self, position: int) -> int | None:
        """Return the offset of the next batch in this answer that opens, None if none does."""
        for batch in self._batches[position:]:
            try:
                self._open(batch, Room())
            except (KeyDenied, KeyUnavailable, *_REFUSALS):
                continue
            return batch.header.base_offset if batch.header else None
        return None


def _audit_plain(topic: str, cause: Cause | None, _: str, **values: object) -> None:
    audit("plain.passed", topic, cause, **values)
