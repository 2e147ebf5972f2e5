"""Where the batches that a process seals stand in their streams (FORMAT.md of envelopes, section 14.2).

A lane is a producer id's, or a connection's where the client has none. What a lane vouches for must be in the log, so
an answer of the broker isn't enough: brokers answer a retry of what they have as if it had just come. Hence nothing is
vouched for that may be such a retry:

    a producer id goes on over the same connection where it left off   vouched for, once all replicas have it
    it begins elsewhere, comes again, or leaves something out          not so its next batches, as many as can be on
                                                                       their way at once
"""

import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Final, NamedTuple

from kveil.protocol.envelope.crypto import KEY_LENGTH, Fingerprint
from kveil.protocol.envelope.lane import Lane
from kveil.protocol.envelope.position import Slot
from kveil.protocol.identity.progress import Mark, Progress
from kveil.protocol.kafka.primitives import Buffer
from kveil.protocol.kafka.record_batch import BatchHeader

IN_FLIGHT: Final = 5
"""Batches of an idempotent producer that may be on their way, which is also what brokers know again."""

MAX_LANES: Final = 8_192
"""Of one epoch key, before another one is begun: an announcement names them all, and must fit in a record."""

MAX_KEPT_BYTES: Final = 32 * 1024 * 1024
"""Of sealed batches that may be sent again. One that isn't kept any more gets another place."""

RETRY_SECONDS: Final = 120.0
"""For how long clients retry by default: what one sent to a process before this one has ended by then."""

_SEQUENCES: Final = 2**31

_fingerprint = Fingerprint(os.urandom(KEY_LENGTH))

Where = tuple[str | bytes, int, object]
"""A topic by its id, or its name where no id is known, a partition, and how it is sealed."""


@dataclass(slots=True, eq=False)
class _Kept:
    """A sealed batch that may be asked for again."""

    epoch: int
    sequence: int
    digest: bytes
    batch: int
    pieces: Sequence[Buffer]


@dataclass(slots=True, eq=False)
class Writer:
    """One lane under one epoch key, and what of it may come again."""

    lane: Lane
    kid: bytes
    topic: str | bytes
    partition: int
    kept: list[_Kept] = field(default_factory=list)
    last_offset: int = -1

    def settle(self, batch: int, base_offset: int | None) -> None:
        """The broker has answered: all replicas have the batch, at this offset, or None."""
        if base_offset is not None and base_offset > self.last_offset:
            self.last_offset = base_offset
            self.lane.acknowledged(batch)
        else:
            self.lane.skipped(batch)

    @property
    def is_settled(self) -> bool:
        """Whether nothing of it is on its way."""
        return not self.lane.unsettled


@dataclass(slots=True, eq=False)
class _Run:
    """How far a producer id came, and over which connection."""

    by: object
    epoch: int
    sequence: int
    unvouched: int = IN_FLIGHT

    def go_on(self, by: object, header: BatchHeader, *, is_fresh: bool) -> bool:
        """Whether the next batch can't be a retry of one that the broker has."""
        goes_on = (self.by, self.epoch, self.sequence) == (by, header.producer_epoch, header.base_sequence)
        if not goes_on:
            self.unvouched = 0 if is_fresh else IN_FLIGHT
        self.by, self.epoch = by, header.producer_epoch
        self.sequence = (header.base_sequence + header.record_count) % _SEQUENCES
        if self.unvouched:
            self.unvouched -= 1
            return False
        return True


class Placed(NamedTuple):
    """A batch that the broker's answer is to settle."""

    writer: Writer
    batch: int


class Lanes:
    """All of one process. Times are of one clock, in seconds."""

    def __init__(self, *, began: float, is_alone: bool) -> None:
        """`is_alone`: no other process of this host serves the same clients."""
        self._fresh_from = began + RETRY_SECONDS if is_alone else float("inf")
        self._numbers = count(1)
        self._of_keys: dict[bytes, list[Writer]] = {}
        self._topics: dict[bytes, str | bytes] = {}  # of keys: the one that they seal for now
        self._writers: dict[tuple[Where, int], Writer] = {}
        self._free: dict[tuple[bytes, Where], list[Writer]] = {}
        self._runs: OrderedDict[tuple[Where, int], _Run] = OrderedDict()
        self._kept: OrderedDict[_Kept, tuple[Writer, int]] = OrderedDict()
        self._kept_bytes = 0

    def is_full(self, kid: bytes) -> bool:
        """Whether a key has as many lanes as it may."""
        return len(self._of_keys.get(kid, ())) >= MAX_LANES

    def marks(self, kid: bytes) -> Iterator[Mark]:
        """How far each lane of a key goes, as far as anything was sealed."""
        for one in self._of_keys.get(kid, ()):
            yield Mark(kid, one.partition, one.lane.number, one.lane.batches)

    def heads(self) -> Iterator[Progress]:
        """How far each lane goes, of all keys."""
        for each in self._of_keys.values():
            for one in each:
                lane = one.lane
                acknowledged = 0 if self._is_gone(one) else lane.acknowledged_batch
                yield Progress(one.kid, one.partition, lane.number, acknowledged, lane.batches)

    def _is_gone(self, writer: Writer) -> bool:
        """Whether its topic was made again: what was in the other one needn't be there."""
        now = self._topics[writer.kid]
        return isinstance(now, bytes) and isinstance(writer.topic, bytes) and now != writer.topic

    def forget(self, kid: bytes) -> None:
        """Nothing is sealed under a key any more, and what was is told."""
        self._of_keys.pop(kid, None)
        self._topics.pop(kid, None)
        self._writers = {place: one for place, one in self._writers.items() if one.kid != kid}
        self._free = {place: some for place, some in self._free.items() if place[0] != kid}

    # Writing -----------------------------------------------------------------------------------------------------

    def writer(self, kid: bytes, where: Where, header: BatchHeader, own: "OwnLanes") -> Writer:
        """The lane that a batch belongs to. `own` are the lanes of its connection."""
        held = self._writers if header.producer_id >= 0 else own.writers
        place = where, header.producer_id
        found = held.get(place)
        if found is None or found.kid != kid:
            free = self._free.get((kid, where))
            found = held[place] = free.pop() if free else self._new(kid, where)
        return found

    def _new(self, kid: bytes, where: Where) -> Writer:
        topic, partition, _ = where
        made = Writer(Lane(next(self._numbers)), kid, topic, partition)
        self._topics[kid] = topic
        self._of_keys.setdefault(kid, []).append(made)
        return made

    def again(self, writer: Writer, header: BatchHeader, digest: bytes) -> Sequence[Buffer] | None:
        """The very bytes that a batch was sealed to before, None if it wasn't or isn't known any more.

        What is sealed anew counts behind all that was: then nothing that follows it can be sent as it was, either.
        """
        if header.producer_id < 0:
            return None
        for kept in writer.kept:
            if (kept.epoch, kept.sequence, kept.digest) == (header.producer_epoch, header.base_sequence, digest):
                writer.lane.skipped(kept.batch)  # which of the two the broker took can't be told
                return kept.pieces
        for kept in list(writer.kept):
            ahead = (kept.sequence - header.base_sequence) % _SEQUENCES
            if kept.epoch != header.producer_epoch or ahead < _SEQUENCES // 2:
                self._drop(kept)
        return None

    def sealed(
        self,
        writer: Writer,
        slot: Slot,
        where: Where,
        header: BatchHeader,
        own: "OwnLanes",
        *,
        now: float,
        all_replicas: bool,
    ) -> Placed | None:
        """A batch was sealed and is about to leave. What is returned is settled by the broker's answer."""
        batch = slot.position.batch
        writer.lane.sealed(slot)
        is_new = header.producer_id < 0 or self.goes_on(writer, where, header, own, now=now)
        if is_new and all_replicas:
            return Placed(writer, batch)
        writer.lane.skipped(batch)
        return None

    def goes_on(self, writer: Writer, where: Where, header: BatchHeader, own: "OwnLanes", *, now: float) -> bool:
        """Take note of a batch of a producer id, and say whether it may be vouched for."""
        place = where, header.producer_id
        run = self._runs.pop(place, None)
        is_known = run is not None
        if run is None:
            run = _Run(own, header.producer_epoch, -1)
        self._runs[place] = run
        if len(self._runs) > MAX_LANES:
            self._runs.popitem(last=False)
        if is_known and run.by is not own:
            for batch in writer.lane.unsettled:
                writer.lane.skipped(batch)
        is_fresh = not is_known and header.base_sequence == 0 and now >= self._fresh_from
        return run.go_on(own, header, is_fresh=is_fresh)

    def keep(self, writer: Writer, slot: Slot, header: BatchHeader, digest: bytes, pieces: Sequence[Buffer]) -> None:
        """Have a sealed batch at hand, in case that the client sends it again."""
        if header.producer_id < 0:
            return
        kept = _Kept(header.producer_epoch, header.base_sequence, digest, slot.position.batch, pieces)
        size = sum(map(len, kept.pieces))
        writer.kept.append(kept)
        self._kept[kept] = writer, size
        self._kept_bytes += size
        if len(writer.kept) > IN_FLIGHT:
            self._drop(writer.kept[0])
        while self._kept_bytes > MAX_KEPT_BYTES:
            self._drop(next(iter(self._kept)))

    def _drop(self, kept: _Kept) -> None:
        writer, size = self._kept.pop(kept)
        writer.kept.remove(kept)
        self._kept_bytes -= size

    def release(self, own: "OwnLanes") -> None:
        """A connection has ended: its lanes are for others, where nothing of them is on its way."""
        for (where, _), writer in own.writers.items():
            if writer.is_settled and writer.kid in self._of_keys:
                self._free.setdefault((writer.kid, where), []).append(writer)
        own.writers.clear()


class OwnLanes:
    """Those of one connection."""

    __slots__ = ("writers",)

    def __init__(self) -> None:
        self.writers: dict[tuple[Where, int], Writer] = {}
        """By producer id too, which is -1 for all of them."""


def digest_of(batch: Buffer) -> bytes:
    """By what this process knows a batch again."""
    return _fingerprint(batch)
