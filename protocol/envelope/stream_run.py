"""A stretch of a partition's log that was read without a hole, and what it showed of each lane (FORMAT.md, section
14.3). `stream.py` puts such stretches together.

Lanes are judged by what was read alone: a batch that nobody fetched is no gap. What was forgotten is never judged by.
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

MAX_LANES: Final = 128
"""Lanes of a run; the one that was seen longest ago is forgotten first."""

MAX_MISSING: Final = 16
"""Ranges of a lane that nothing was said of yet. Of more the first is forgotten: it is never reported then."""

_BEYOND = 2**64

LaneKey = tuple[bytes, int]
"""kid and lane."""


class Kind(Enum):
    """What was found. The first three are refusals: what they were found at must not be delivered."""

    REPLAY = "a batch again at another offset"
    REORDER = "a batch behind a later one"
    FORK = "another history than the writer's, or than was shown before"
    GAP = "acknowledged batches are missing"
    WITHHELD = "acknowledged batches are missing at the end"

    @property
    def is_refusal(self) -> bool:
        """Whether the batch is refused whatever a rule says."""
        return self in {Kind.REPLAY, Kind.REORDER, Kind.FORK}


class Finding(NamedTuple):
    """What is wrong with a lane: batches `first` to `last`, seen at `offset`."""

    kind: Kind
    kid: bytes
    lane: int
    first: int
    last: int
    offset: int


class _Entry(NamedTuple):
    batch: int
    nth: int
    offset: int
    digest: bytes


class LaneRun:
    """What a run showed of one lane."""

    __slots__ = ("acknowledged", "first", "first_previous", "growth_only", "missing", "skipped_before", "window")

    def __init__(self, seen: Seen) -> None:
        self.first = _entry(seen)
        self.first_previous = seen.position.previous
        self.window: deque[_Entry] = deque([self.first], WINDOW)
        self.growth_only = seen.nth is not None
        self.acknowledged = seen.position.acknowledged
        self.missing: list[Range] = []
        self.skipped_before: list[Range] = []  # of the numbers below the first: they matter when runs meet
        self.note(seen)

    @property
    def last(self) -> _Entry:
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
            without(self.skipped_before, [(before.first.batch, _BEYOND)]),
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
    lost = without(unexplained, [(acknowledged + 1, _BEYOND)])
    return lost, without(unexplained, [(0, acknowledged)])[-MAX_MISSING:]


def _follows(before: LaneRun, after: LaneRun) -> bool:
    """Whether a lane's part in one run may come before its part in the next."""
    if before.last[:2] >= after.first[:2]:
        return False
    is_next = not after.growth_only and after.first.batch == before.last.batch + 1
    return not is_next or after.first_previous == before.last.digest


def _entry(seen: Seen) -> _Entry:
    return _Entry(seen.position.batch, seen.nth or 0, seen.offset, seen.digest)


class Run:
    """Offsets `start` to `end - 1`, and the lanes in them, the one seen last at the end."""

    __slots__ = ("began", "end", "floors", "has_forgotten", "lanes", "start")

    def __init__(self, start: int, now: float) -> None:
        self.start = self.end = start
        self.began = now
        self.lanes: dict[LaneKey, LaneRun] = {}
        self.floors: dict[LaneKey, int] = {}  # heads that may lie before the start
        self.has_forgotten = False

    @property
    def is_from_the_start(self) -> bool:
        """Whether a lane's first batch in it is the first in the log. Retention never gives offset 0 back."""
        return self.start == 0 and not self.has_forgotten

    def bare_order(self, seen: Seen, *, is_before: bool) -> Kind | None:
        """What is wrong if `seen` lies before this run, or behind it."""
        lane = self.lanes.get((seen.kid, seen.position.lane))
        if lane is None:
            return None
        found = _entry(seen)
        if is_before:
            return _kind(found, lane) if found[:2] >= lane.first[:2] else None
        return _kind(found, lane) if found[:2] <= lane.last[:2] else None

    def check_again(self, seen: Seen) -> Kind | None:
        """What is wrong with an envelope at an offset that was read before."""
        lane = self.lanes.get((seen.kid, seen.position.lane))
        found = _entry(seen)
        if lane is None:
            return None if self.has_forgotten else Kind.FORK
        oldest = lane.window[0]
        if found.offset < oldest.offset:
            return None if found[:2] < oldest[:2] else _kind(found, lane)
        if found in lane.window:
            return None
        if any(found.offset == each.offset for each in lane.window):
            return Kind.FORK
        return _kind(found, lane)

    def extend(self, seen: Seen, *, growth_only: bool, refuse_gaps: bool) -> list[Finding]:
        """Take an envelope behind the end. A refusal comes alone, and changes nothing."""
        key = seen.kid, seen.position.lane
        lane = self.lanes.get(key)
        found, position = _entry(seen), seen.position
        kind = None if lane is None else _check_next(lane, seen)
        if kind is not None:
            return [Finding(kind, *key, found.batch, found.batch, found.offset)]
        lost: list[Range] = []
        left_open: list[Range] = []
        if not growth_only and seen.nth is None:
            missing = self._missing_before(key, found.batch)
            lost, left_open = judge(missing, position.skipped, position.acknowledged)
        findings = [Finding(Kind.GAP, *key, first, last, found.offset) for first, last in lost]
        if findings and refuse_gaps:
            return findings
        if lane is None:
            lane = LaneRun(seen)
        else:
            lane.window.append(found)
            lane.note(seen)
            del self.lanes[key]  # to the end
        lane.missing = left_open
        self.lanes[key] = lane
        self._forget_lanes()
        return findings

    def take(self, right: Run, *, growth_only: bool, refuse_gaps: bool) -> list[Finding]:
        """Put the run that begins where this one ends behind it. A refusal comes alone, and changes nothing."""
        for key, after in right.lanes.items():
            before = self.lanes.get(key)
            if before is not None and not _follows(before, after):
                return [Finding(Kind.FORK, *key, after.first.batch, after.first.batch, after.first.offset)]
        findings: list[Finding] = []
        left_open: dict[LaneKey, list[Range]] = {}
        for key, after in right.lanes.items():
            if growth_only or after.growth_only:
                continue
            lost, left_open[key] = judge(
                [*self._missing_before(key, after.first.batch), *after.missing],
                after.skipped_before,
                after.acknowledged,
            )
            findings += [Finding(Kind.GAP, *key, first, last, after.first.offset) for first, last in lost]
        if findings and refuse_gaps:
            return findings
        for key, after in right.lanes.items():
            after.missing = left_open.get(key, after.missing)
            before = self.lanes.pop(key, None)
            if before is not None:
                after.put_behind(before)
            self.lanes[key] = after
        for key, floor in right.floors.items():
            self.floors[key] = max(self.floors.get(key, 0), floor)
        self.end, self.began = right.end, min(self.began, right.began)
        self.has_forgotten = self.has_forgotten or right.has_forgotten
        self._forget_lanes()
        return findings

    def _missing_before(self, key: LaneKey, batch: int) -> list[Range]:
        """The batches of a lane before this one that should have come, as far as nothing has explained that."""
        before = self.lanes.get(key)
        if before is not None:
            first, missing = before.last.batch + 1, before.missing
        elif self.is_from_the_start:
            first, missing = 1, []
        else:
            return []
        return [*missing, (first, batch - 1)] if first < batch else missing

    def cut(self, offset: int) -> None:
        """Forget what was at `offset` and behind it."""
        self.end = min(self.end, offset)
        for key, lane in list(self.lanes.items()):
            while lane.window and lane.last.offset >= offset:
                lane.window.pop()
            if lane.window:
                lane.missing = without(lane.missing, [(lane.last.batch + 1, 2**63)])
            else:
                self._forget(key)

    def _forget_lanes(self) -> None:
        while len(self.lanes) > MAX_LANES:
            self._forget(next(iter(self.lanes)))

    def _forget(self, key: LaneKey) -> None:
        del self.lanes[key]
        self.floors.pop(key, None)
        self.has_forgotten = True


def _check_next(lane: LaneRun, seen: Seen) -> Kind | None:
    """What is wrong with an envelope behind the lane's last."""
    found, last = _entry(seen), lane.last
    if found[:2] <= last[:2]:
        return _kind(found, lane)
    if seen.nth is None and found.batch == last.batch + 1 and seen.position.previous != last.digest:
        return Kind.FORK
    return None


def _kind(found: _Entry, lane: LaneRun) -> Kind:
    """What it is, if `found` may not stand where it was found."""
    for entry in (*lane.window, lane.first):
        if entry[:2] == found[:2]:
            return Kind.REPLAY if entry.digest == found.digest else Kind.FORK
    is_missing = any(first <= found.batch <= last for first, last in lane.missing)
    return Kind.REORDER if is_missing or found.batch > lane.window[0].batch else Kind.REPLAY
