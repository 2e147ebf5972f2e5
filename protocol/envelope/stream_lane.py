"""What one stretch of the log showed of one lane, and what can be wrong with what comes next (FORMAT.md, section
14.3).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from enum import Enum
from typing import Final, NamedTuple

from kveil.protocol.envelope.position import MAX_SKIPPED, Range, coarser, with_range, without
from kveil.protocol.envelope.seen import Seen

WINDOW: Final = 16
"""Envelopes of a lane that are remembered one by one, about 200 bytes each. Of older ones their order is left."""

MAX_MISSING: Final = 16
"""Ranges of a lane that nothing was said of yet. Of more the first is forgotten: it is never reported then."""

BEYOND = 2**64

LaneKey = tuple[bytes, int]
"""kid and lane."""


class Kind(Enum):
    """What was found. The first three are refusals: what they were found at must not be delivered. The last two are the
    cluster's word, which changes what is expected of it.
    """

    REPLAY = "a batch again at another offset"
    REORDER = "a batch behind a later one"
    FORK = "another history than the writer's, or than was shown before"
    GAP = "acknowledged batches are missing"
    WITHHELD = "acknowledged batches are missing at the end"
    OUTCOME = "another end of a transaction than its producer's, or than was shown before"
    CUT = "the cluster says that the log was cut back"
    REMADE = "the cluster says that the topic was made again"

    @property
    def is_refusal(self) -> bool:
        """Whether the batch is refused whatever a rule says."""
        return self in {Kind.REPLAY, Kind.REORDER, Kind.FORK}

    @property
    def is_notice(self) -> bool:
        """Whether nothing is wrong by itself: the finding is about no lane."""
        return self in {Kind.CUT, Kind.REMADE}


class Finding(NamedTuple):
    """What is wrong with a lane: batches `first` to `last`, seen at `offset`. A notice has its offset only."""

    kind: Kind
    kid: bytes
    lane: int
    first: int
    last: int
    offset: int


class Entry(NamedTuple):
    batch: int
    nth: int
    offset: int
    digest: bytes


class LaneRun:
    """What a run showed of one lane."""

    __slots__ = ("acknowledged", "first", "first_previous", "growth_only", "missing", "skipped_before", "window")

    def __init__(self, seen: Seen) -> None:
        self.first = entry(seen)
        self.first_previous = seen.position.previous
        self.window: deque[Entry] = deque([self.first], WINDOW)
        self.growth_only = seen.nth is not None
        self.acknowledged = seen.position.acknowledged
        self.missing: list[Range] = []
        self.skipped_before: list[Range] = []  # of the numbers below the first: they matter when runs meet
        self.note(seen)

    @property
    def last(self) -> Entry:
        """The one with the highest offset."""
        return self.window[-1]

    def note(self, seen: Seen) -> None:
        """Take over what a position says of others."""
        position = seen.position
        self.acknowledged = max(self.acknowledged, position.acknowledged)
        if not position.skipped:
            return
        below = without(position.skipped, [(self.first.batch, position.batch)])
        self._skip_before(below)

    def put_behind(self, before: LaneRun) -> None:
        """Be what both showed together, `before` being of the run before."""
        if self.window[0] == self.first:  # else what lay between the two windows is forgotten
            self.window.extendleft(list(reversed(before.window))[: WINDOW - len(self.window)])
        self.first, self.first_previous = before.first, before.first_previous
        self.acknowledged = max(self.acknowledged, before.acknowledged)
        below, self.skipped_before = (
            without(self.skipped_before, [(before.first.batch, BEYOND)]),
            before.skipped_before,
        )
        self._skip_before(below)

    def _skip_before(self, ranges: Iterable[Range]) -> None:
        for first, last in ranges:
            self.skipped_before = with_range(self.skipped_before, first, last)
        # To put two together is to take more for skipped: no claim is made by it.
        self.skipped_before = coarser(self.skipped_before, MAX_SKIPPED)


def judge(missing: list[Range], skipped: Iterable[Range], acknowledged: int) -> tuple[list[Range], list[Range]]:
    """Of missing batches those that are lost, and those that may still be explained."""
    unexplained = without(missing, skipped)
    lost = without(unexplained, [(acknowledged + 1, BEYOND)])
    return lost, without(unexplained, [(0, acknowledged)])[-MAX_MISSING:]


def follows(before: LaneRun, after: LaneRun) -> bool:
    """Whether a lane's part in one run may come before its part in the next, for all that the next names before it."""
    is_next = not after.growth_only and after.first.batch == before.last.batch + 1
    return not is_next or after.first_previous == before.last.digest


def entry(seen: Seen) -> Entry:
    return Entry(seen.position.batch, seen.nth or 0, seen.offset, seen.digest)


def check_next(lane: LaneRun, seen: Seen) -> Kind | None:
    """What is wrong with an envelope behind the lane's last."""
    found, last = entry(seen), lane.last
    if found[:2] <= last[:2]:
        return kind_of(found, lane)
    if seen.nth is None and found.batch == last.batch + 1 and seen.position.previous != last.digest:
        return Kind.FORK
    return None


def kind_of(found: Entry, lane: LaneRun) -> Kind:
    """What it is, if `found` may not stand where it was found."""
    for entry in (*lane.window, lane.first):
        if entry[:2] == found[:2]:
            return Kind.REPLAY if entry.digest == found.digest else Kind.FORK
    is_missing = any(first <= found.batch <= last for first, last in lane.missing)
    return Kind.REORDER if is_missing or found.batch > lane.window[0].batch else Kind.REPLAY
