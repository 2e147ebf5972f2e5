"""A stretch of a partition's log that was read without a hole, and what it showed of each lane (FORMAT.md, section
14.3). `stream.py` puts such stretches together.

Lanes are judged by what was read alone: a batch that nobody fetched is no gap. What was forgotten is never judged by.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from kveil.protocol.envelope.position import Range, without
from kveil.protocol.envelope.seen import Seen
from kveil.protocol.envelope.stream_lane import (
    Finding,
    Kind,
    LaneKey,
    LaneRun,
    check_next,
    entry,
    follows,
    judge,
    kind_of,
)

MAX_LANES: Final = 128
"""Lanes of a run; the one that was seen longest ago is forgotten first."""

MAX_LEADERS: Final = 64
"""Leader epochs of a run; the oldest is forgotten first."""


class Leader(NamedTuple):
    """A batch's base offset, and the leader epoch in its header. Both grow along an honest log; where an offset comes
    again with a higher epoch, the log was cut back.
    """

    base: int
    epoch: int


class Run:
    """Offsets `start` to `end - 1`, and the lanes in them, the one seen last at the end."""

    __slots__ = ("began", "end", "floors", "has_forgotten", "lanes", "leaders", "start")

    def __init__(self, start: int, now: float) -> None:
        self.start = self.end = start
        self.began = now
        self.lanes: dict[LaneKey, LaneRun] = {}
        self.floors: dict[LaneKey, int] = {}  # heads that may lie before the start
        self.has_forgotten = False
        self.leaders: list[Leader] = []  # each the first batch of its epoch

    @property
    def is_from_the_start(self) -> bool:
        """Whether a lane's first batch in it is the first in the log. Retention never gives offset 0 back."""
        return self.start == 0 and not self.has_forgotten

    def bare_order(self, seen: Seen, *, is_before: bool) -> Kind | None:
        """What is wrong if `seen` lies before this run, or behind it."""
        lane = self.lanes.get((seen.kid, seen.position.lane))
        if lane is None:
            return None
        found = entry(seen)
        if is_before:
            return kind_of(found, lane) if found[:2] >= lane.first[:2] else None
        return kind_of(found, lane) if found[:2] <= lane.last[:2] else None

    def check_again(self, seen: Seen) -> Kind | None:
        """What is wrong with an envelope at an offset that was read before."""
        lane = self.lanes.get((seen.kid, seen.position.lane))
        found = entry(seen)
        if lane is None:
            return None if self.has_forgotten else Kind.FORK
        oldest = lane.window[0]
        if found.offset < oldest.offset:
            return None if found[:2] < oldest[:2] else kind_of(found, lane)
        if found in lane.window:
            return None
        if any(found.offset == each.offset for each in lane.window):
            return Kind.FORK
        return kind_of(found, lane)

    def extend(self, seen: Seen, *, growth_only: bool, refuse_gaps: bool) -> list[Finding]:
        """Take an envelope behind the end. A refusal comes alone, and changes nothing."""
        key = seen.kid, seen.position.lane
        lane = self.lanes.get(key)
        found, position = entry(seen), seen.position
        kind = None if lane is None else check_next(lane, seen)
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
            if before is not None and not follows(before, after):
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
        for leader in right.leaders:
            self.note_leader(leader)
        self.end = right.end
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

    def note_leader(self, leader: Leader) -> None:
        """A batch of the run is from this leader."""
        if not self.leaders or leader.epoch > self.leaders[-1].epoch:
            self.leaders = [*self.leaders[1 - MAX_LEADERS :], leader]

    def is_older(self, leader: Leader, end: int) -> bool:
        """Whether what was read where this leader's batch is now, up to `end`, was from an earlier one."""
        offset = max(self.start, leader.base)
        known = [each.epoch for each in self.leaders if each.base <= offset]
        return offset < min(self.end, end) and bool(known) and known[-1] < leader.epoch

    def cut(self, offset: int) -> None:
        """Forget what was at `offset` and behind it, and what was taken for seen because it is acknowledged."""
        self.end = min(self.end, offset)
        self.floors.clear()
        self.leaders = [each for each in self.leaders if each.base < offset]
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
