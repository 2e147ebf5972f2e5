"""The reader's side of stream positions in one partition: what is replayed, reordered, forked or missing (FORMAT.md,
section 14.3).

Readers of one proxy read here and there, seek, and read again. So what was read is kept as runs, stretches of the log
without a hole; a batch is judged by its run and must lie between the others. Two runs that meet become one.

What it costs: at most MAX_RUNS x MAX_LANES x WINDOW envelopes, about 1.5 MB; a partition of ten lanes that is read
from one place, 40 KB. What is forgotten first: the run that was read longest ago, in a run the lane that was seen
longest ago, of a lane the oldest envelopes. Nothing is claimed from what was forgotten, so it never makes an alarm.

Time is in seconds of any clock that doesn't go back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from kveil.protocol.envelope.seen import Seen
from kveil.protocol.envelope.stream_lane import Finding, Kind, LaneKey
from kveil.protocol.envelope.stream_run import MAX_LANES, Leader, Run

__all__ = ["Finding", "Kind", "Leader", "Stream"]

MAX_RUNS: Final = 4
"""Places of one partition that are read at the same time, or were."""

GRACE_SECONDS: Final = 5.0
"""How long a beacon may be on its way, and an acknowledged batch on its way to a follower that is read from."""

SETTLED_SECONDS: Final = 65.0
"""Of what a beacon that comes so long after a run began names as new, nothing is from before: no acknowledgement takes
longer than the rest of a minute."""


class Stream:
    """One partition of one topic, by its id: a topic that is made again is another.

    With `refuse_gaps` what a gap shows at isn't taken, and is found again when it is read again.
    """

    def __init__(self, *, refuse_gaps: bool = False, is_remade: bool = False) -> None:
        """`is_remade`: there was another topic of that name, to which batches went that are vouched for."""
        self._refuse_gaps = refuse_gaps
        self._is_remade = is_remade
        self._runs: list[Run] = []  # by offset
        self._used: list[Run] = []  # the same by use, the latest at the end
        self._heads: dict[LaneKey, tuple[int, float, float]] = {}  # batches, when that was first and last heard

    def read(
        self,
        start: int,
        end: int,
        seen: Sequence[Seen],
        now: float,
        *,
        growth_only: bool = False,
        leader: Leader | None = None,
    ) -> list[Finding]:
        """The log from offset `start` to `end - 1` was read, and held these, by offset, and nothing else with a
        position.

        Who can't say that gives each envelope a call of its own, from its offset to the next. With `growth_only`, for a
        topic that is or was compacted, nothing is a gap; nor is it in record mode. From the offset of the first refusal
        on, with `refuse_gaps` of the first gap, nothing was taken, and nothing must be delivered; it may lie behind
        `end`, where another reader has been.

        `leader` is of the batch that ends at `end`, where that is all that was read.
        """
        findings = self._cut_by(leader, end)
        run = self._run_at(start, now)
        for each in [*seen, None]:
            offset = end if each is None else each.offset
            made = self._join(run, offset, growth_only)
            if not self._stops(made) and each is not None:
                made += self._take(run, each, growth_only)
            findings += made
            if self._stops(made):
                run.end = max(run.end, min(offset, self._start_behind(run)))
                break
            run.end = max(run.end, offset if each is None else offset + 1)
        else:
            if leader is not None:
                run.note_leader(leader)
        self._forget_runs(run)
        return findings

    def _cut_by(self, leader: Leader | None, end: int) -> list[Finding]:
        """Believe that the log was cut back, where what was read before is now from a later leader."""
        if leader is None or not any(run.is_older(leader, end) for run in self._runs):
            return []
        self.cut(leader.base)
        return [Finding(Kind.CUT, b"", 0, 0, 0, leader.base)]

    def _stops(self, findings: Iterable[Finding]) -> bool:
        return any(each.kind.is_refusal or self._refuse_gaps for each in findings)

    def _run_at(self, offset: int, now: float) -> Run:
        """The run that `offset` is in, or right behind; a new one if there is none."""
        for run in self._runs:
            if run.start <= offset <= run.end:
                return run
        run = Run(offset, now)
        run.has_forgotten = self._is_remade  # what isn't there may have stood in the other one
        self._runs = sorted([*self._runs, run], key=lambda each: each.start)
        return run

    def _start_behind(self, run: Run) -> int:
        place = self._runs.index(run) + 1
        return self._runs[place].start if place < len(self._runs) else 2**63

    def _join(self, run: Run, offset: int, growth_only: bool) -> list[Finding]:
        """Put the runs together that `run`, now that it is read up to `offset`, comes to touch."""
        findings: list[Finding] = []
        while self._start_behind(run) <= offset:
            place = self._runs.index(run) + 1
            made = run.take(self._runs[place], growth_only=growth_only, refuse_gaps=self._refuse_gaps)
            findings += made
            if self._stops(made):
                break
            gone = self._runs.pop(place)
            self._used = [each for each in self._used if each is not gone]
        return findings

    def _take(self, run: Run, seen: Seen, growth_only: bool) -> list[Finding]:
        """One envelope, against its run and the others."""
        kind = run.check_again(seen) if seen.offset < run.end else None
        for other in self._runs:
            if other is not run:
                kind = kind or other.bare_order(seen, is_before=other.start > seen.offset)
        if kind is not None:
            return [Finding(kind, seen.kid, seen.position.lane, seen.position.batch, seen.position.batch, seen.offset)]
        if seen.offset < run.end:
            return []
        return run.extend(seen, growth_only=growth_only, refuse_gaps=self._refuse_gaps)

    def _forget_runs(self, used: Run) -> None:
        self._used = [*(each for each in self._used if each is not used), used]
        while len(self._used) > MAX_RUNS:
            gone = self._used.pop(0)
            self._runs.remove(gone)

    def cut(self, offset: int) -> None:
        """The log was cut back to `offset`, as it may be by an unclean election: what was behind it counts no more."""
        for run in list(self._runs):
            if run.start >= offset:
                self._runs.remove(run)
                self._used = [each for each in self._used if each is not run]
            else:
                run.cut(offset)

    # Beacons ---------------------------------------------------------------------------------------------------------

    def note_heads(self, heads: Iterable[tuple[bytes, int, int]], now: float) -> None:
        """A beacon named kid, lane and the highest acknowledged batch of these.

        It must have come within GRACE_SECONDS: one that was read late says nothing that is new.
        """
        for kid, lane, batches in heads:
            known, first, _ = self._heads.pop((kid, lane), (0, now, now))
            self._heads[kid, lane] = (batches, now, now) if batches > known else (known, first, now)
        while len(self._heads) > MAX_LANES:
            del self._heads[next(iter(self._heads))]

    def at_end(self, end: int, now: float, *, growth_only: bool = False) -> list[Finding]:
        """A broker's answer of `now` said that the log ends at `end`, up to which it was read.

        The log's end is the high watermark: no end is where transactions are open (the last stable offset), or where
        only some of the records are given out.
        """
        run = next((each for each in self._runs if each.start <= end <= each.end), None)
        if run is None or growth_only:
            return []
        findings = []
        for key, (batches, heard_first, heard_last) in self._heads.items():
            if now - heard_first < GRACE_SECONDS:
                continue
            known = self._known(run, key)
            if known is not None and known < batches:
                findings.append(Finding(Kind.WITHHELD, *key, known + 1, batches, end))
            if known is not None or heard_last - run.began >= SETTLED_SECONDS:
                run.floors[key] = max(run.floors.get(key, 0), batches)
        run.floors = {key: floor for key, floor in run.floors.items() if key in self._heads}
        return findings

    def _known(self, run: Run, key: LaneKey) -> int | None:
        """Up to which batch a lane was seen, or needn't be. None if that can't be said."""
        lane, floor = run.lanes.get(key), run.floors.get(key)
        if lane is not None and lane.growth_only:
            return None
        if lane is not None:
            return max(lane.last.batch, floor or 0)
        return floor if floor is not None or not run.is_from_the_start else 0
