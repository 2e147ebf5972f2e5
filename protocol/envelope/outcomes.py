"""Which batches of one partition were shown as committed or aborted, and which their producers say are (FORMAT.md,
section 14.4).

It costs at most 128 lanes x 4 x 64 ranges. What is forgotten first: the lane that was heard of longest ago, in a lane
the ranges with the lowest numbers. Nothing is claimed from what was forgotten.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, NamedTuple

from kveil.protocol.envelope.position import Range, with_range, without
from kveil.protocol.envelope.stream_lane import Finding, Kind, LaneKey
from kveil.protocol.envelope.stream_run import MAX_LANES

MAX_RANGES: Final = 64
"""Of a lane, shown or said to be one of both."""


class LaneEnd(NamedTuple):
    """Batches whose transactions ended one way, as their producer's process knows."""

    kid: bytes
    lane: int
    first: int
    last: int
    committed: bool


class _Lane:
    """By whether they were committed. `offset` is where the lane was shown last."""

    __slots__ = ("offset", "said", "shown")

    def __init__(self) -> None:
        self.shown: dict[bool, list[Range]] = {True: [], False: []}
        self.said: dict[bool, list[Range]] = {True: [], False: []}
        self.offset = -1


class Outcomes:
    """One partition, for those who read committed records only."""

    def __init__(self) -> None:
        self._lanes: OrderedDict[LaneKey, _Lane] = OrderedDict()

    def is_known(self, kid: bytes, lane: int, batch: int) -> bool | None:
        """What its producer says of a batch: whether it was committed, None if that wasn't heard."""
        known = self._lanes.get((kid, lane))
        if known is None:
            return None
        return next((each for each in (True, False) if _has(known.said[each], batch)), None)

    def show(self, kid: bytes, lane: int, batch: int, offset: int, *, committed: bool) -> list[Finding]:
        """It is delivered as committed, or left out as aborted. What was shown otherwise before is a finding."""
        known = self._lane((kid, lane))
        known.offset = offset
        was_other = _has(known.shown[not committed], batch)
        _add(known.shown, committed, batch, batch)
        if not was_other:
            return []
        known.shown[not committed] = without(known.shown[not committed], [(batch, batch)])
        return [Finding(Kind.OUTCOME, kid, lane, batch, batch, offset)]

    def say(self, ended: LaneEnd) -> list[Finding]:
        """A producer says how batches ended. What was shown otherwise is a finding, once."""
        kid, lane, first, last, committed = ended
        known = self._lane((kid, lane))
        _add(known.said, committed, first, last)
        other = known.shown[not committed]
        left = without(other, [(first, last)])
        known.shown[not committed] = left
        return [Finding(Kind.OUTCOME, kid, lane, low, high, known.offset) for low, high in without(other, left)]

    def _lane(self, key: LaneKey) -> _Lane:
        found = self._lanes.get(key)
        if found is None:
            found = self._lanes[key] = _Lane()
        self._lanes.move_to_end(key)
        if len(self._lanes) > MAX_LANES:
            self._lanes.popitem(last=False)
        return found


def _has(ranges: list[Range], batch: int) -> bool:
    return any(first <= batch <= last for first, last in ranges)


def _add(kept: dict[bool, list[Range]], committed: bool, first: int, last: int) -> None:
    kept[committed] = with_range(kept[committed], first, last)[-MAX_RANGES:]
