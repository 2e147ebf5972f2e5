"""The writer's side of stream positions: one lane's batches in one partition under one epoch key (FORMAT.md, section
14.2).

What a position says must be true whatever happens afterwards, since readers raise an alarm by it. So a batch is
`acknowledged` only when all replicas have it, and `skipped` as soon as its writer doesn't vouch for it: refused, taken
apart, sent with fewer acknowledgements, or of an unknown fate. To skip what was stored after all is no lie.
"""

from __future__ import annotations

from typing import Final

from kveil.protocol.envelope.position import (
    DIGEST_LENGTH,
    MAX_SKIPPED,
    Position,
    Range,
    Slot,
    coarser,
    with_range,
    without,
)

MAX_UNSETTLED: Final = 1024
"""Batches that are neither acknowledged nor skipped. Of more the first is skipped: nobody waits for that many."""


class Lane:
    """Counts one lane's batches. Use one lane for one mode, and a new one in a process's every start."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.acknowledged_batch = 0
        """The highest acknowledged one before which none is unsettled: what a beacon says."""
        self._batch = 1
        self._record = 0
        self._previous = bytes(DIGEST_LENGTH)
        self._unsettled: dict[int, tuple[Range, ...]] = {}  # ascending; with the ranges that each one lists
        self._acknowledged: set[int] = set()  # above `acknowledged_batch`
        self._skipped: list[Range] = []  # until an acknowledged batch lists them

    @property
    def batches(self) -> int:
        """How many were sealed."""
        return self._batch - 1

    @property
    def unsettled(self) -> tuple[int, ...]:
        """Those that are neither acknowledged nor skipped, ascending."""
        return tuple(self._unsettled)

    def next(self, record_count: int) -> Slot:
        """Where the next batch stands, of so many records. Nothing is used up before `sealed`."""
        skipped = tuple(coarser(self._skipped, MAX_SKIPPED))
        position = Position(self.number, self._batch, self._record, self._previous, self.acknowledged_batch, skipped)
        return Slot(position, record_count)

    def sealed(self, slot: Slot) -> None:
        """The batch is sealed at `slot`, and may have left the process. Raises ValueError if it isn't, or another was
        sealed there.
        """
        position = slot.position
        if slot.digest is None or position.batch != self._batch:
            raise ValueError("a slot that isn't the next one, sealed")
        self._batch += 1
        self._record += slot.record_count
        self._previous = slot.digest
        self._unsettled[position.batch] = position.skipped
        if len(self._unsettled) > MAX_UNSETTLED:
            self.skipped(next(iter(self._unsettled)))

    def acknowledged(self, batch: int) -> None:
        """All replicas have it, at an offset of its own. Nothing changes if it was settled before."""
        listed = self._unsettled.pop(batch, None)
        if listed is not None:
            self._acknowledged.add(batch)
            self._skipped = without(self._skipped, listed)  # who reads on from before them has now seen that
            self._settle()

    def skipped(self, batch: int) -> None:
        """It may be missing from the log. Nothing changes if it was settled before."""
        if self._unsettled.pop(batch, None) is not None:
            self._skipped = with_range(self._skipped, batch, batch)
            self._settle()

    def _settle(self) -> None:
        first_unsettled = next(iter(self._unsettled), self._batch)
        settled = [batch for batch in self._acknowledged if batch < first_unsettled]
        if settled:
            self.acknowledged_batch = max(settled)
            self._acknowledged.difference_update(settled)
