"""Extension 0x82: where a batch stands in its writer's stream (FORMAT.md, section 14). Decoding is strict.

A stream is what one writer's *lane* (a client's connection, or a producer id) puts into one partition under one epoch
key. Its batches are counted from 1, and each names the one before it.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from struct import Struct
from typing import Final, NamedTuple

from kveil.protocol.envelope.errors import Reason, Unopenable

DIGEST_LENGTH: Final = 16
"""Of SHA-256 of an envelope: nobody but the writer can make two that are alike, and they have nothing from it."""

MAX_SKIPPED: Final = 64
"""Ranges in one position. A writer with more puts neighbours together, which says less and nothing false."""

_HIGHEST = 2**63 - 1
_FIXED = Struct(">IQQ16sQH")
_RANGE = Struct(">QQ")
_NO_DIGEST = bytes(DIGEST_LENGTH)

Range = tuple[int, int]
"""First and last."""


class Position(NamedTuple):
    """What 0x82 says.

    `batch` is the batch's number, from 1 on, and `record` how many records the lane had before it. `previous` is the
    digest of the envelope of batch number `batch - 1`, zeros for the first. `acknowledged` is the number of a batch
    that is stored, 0 for none: all up to it are, but for those that are or were `skipped`.
    """

    lane: int
    batch: int
    record: int
    previous: bytes = _NO_DIGEST
    acknowledged: int = 0
    skipped: tuple[Range, ...] = ()

    def encode(self) -> bytes:
        """The extension's body. Raises ValueError if a reader would refuse it."""
        if not self._holds():
            raise ValueError(f"no position of a batch: {self}")
        fields = (self.lane, self.batch, self.record, self.previous, self.acknowledged, len(self.skipped))
        return _FIXED.pack(*fields) + b"".join(_RANGE.pack(*each) for each in self.skipped)

    @classmethod
    def decode(cls, body: bytes) -> Position:
        """Strict inverse of `encode`. Raises Unopenable."""
        if len(body) < _FIXED.size:
            raise Unopenable(Reason.EXTENSIONS)
        lane, batch, record, previous, acknowledged, count = _FIXED.unpack_from(body)
        if len(body) != _FIXED.size + count * _RANGE.size or count > MAX_SKIPPED:
            raise Unopenable(Reason.EXTENSIONS)
        skipped = tuple((first, last) for first, last in _RANGE.iter_unpack(body[_FIXED.size :]))
        position = cls(lane, batch, record, previous, acknowledged, skipped)
        if not position._holds():
            raise Unopenable(Reason.EXTENSIONS)
        return position

    def _holds(self) -> bool:
        """Whether it is one that a writer can come to."""
        before = -1
        for first, last in self.skipped:
            if first <= before + 1 or last < first:
                return False
            before = last
        return (
            0 <= self.lane < 2**32
            and 0 <= self.acknowledged < self.batch <= self.record + 1 <= _HIGHEST
            and before < self.batch
            and len(self.skipped) <= MAX_SKIPPED
            and len(self.previous) == DIGEST_LENGTH
            and (self.batch > 1 or (self.record == 0 and self.previous == _NO_DIGEST))
        )


class Slot:
    """A position that a batch is being sealed at. Sealing notes the digest of the envelope in it; of several times,
    the last one counts.
    """

    __slots__ = ("digest", "position", "record_count")

    def __init__(self, position: Position, record_count: int) -> None:
        self.position = position
        self.record_count = record_count
        self.digest: bytes | None = None


# Ranges of numbers: ascending, with a hole between each two. ------------------------------------------------------


def with_range(ranges: Iterable[Range], first: int, last: int) -> list[Range]:
    """The ranges and one more."""
    made = []
    for low, high in ranges:
        if high + 1 < first or last + 1 < low:
            made.append((low, high))
        else:
            first, last = min(first, low), max(last, high)
    return sorted([*made, (first, last)])


def without(ranges: Iterable[Range], taken: Iterable[Range]) -> list[Range]:
    """What of the ranges is in none of those taken."""
    left = list(ranges)
    for first, last in taken:
        left = [
            piece
            for low, high in left
            for piece in ((low, min(high, first - 1)), (max(low, last + 1), high))
            if piece[0] <= piece[1]
        ]
    return left


def coarser(ranges: list[Range], most: int) -> list[Range]:
    """So many ranges at most: those with the fewest numbers between them are put together."""
    ranges = list(ranges)
    while len(ranges) > most:
        holes = [after[0] - before[1] for before, after in pairwise(ranges)]
        at = holes.index(min(holes))
        ranges[at : at + 2] = [(ranges[at][0], ranges[at + 1][1])]
    return ranges
