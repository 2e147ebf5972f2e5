"""Numbers for people: how they are written, and how rates and quantiles come from counters."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from kveil.proxy.admin.metrics import BOUNDS
from kveil.proxy.admin.overview import POINT_SECONDS, POINTS

Points = Sequence[tuple[float, Sequence[float]]]
"""As `Overview` keeps them: the time, and what `CHARTED` names."""

WINDOW: Final = 5
"""Points that a quantile is taken over: single ones have too few frames in them."""
_BUCKETS: Final = len(BOUNDS) + 1
_FIRST_BUCKET: Final = 4
_UNITS: Final = ("B", "kB", "MB", "GB", "TB", "PB")
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


class Course(NamedTuple):
    """What happened in the last minutes, one value a point, None where nothing is known."""

    sealed_bytes: list[float | None]
    """A second, and so are the following ones."""
    opened_bytes: list[float | None]
    sealed_records: list[float | None]
    opened_records: list[float | None]
    seal_p99: list[float | None]
    """Seconds."""
    open_p99: list[float | None]


def course(points: Points) -> Course:
    """Return rates and quantiles. All have the same length, whatever is known yet."""
    gap: list[float | None] = [None] * (POINTS - 1 - max(0, len(points) - 1))
    return Course(
        sealed_bytes=gap + _rates(points, 0),
        opened_bytes=gap + _rates(points, 1),
        sealed_records=gap + _rates(points, 2),
        opened_records=gap + _rates(points, 3),
        seal_p99=gap + _quantiles(points, _FIRST_BUCKET),
        open_p99=gap + _quantiles(points, _FIRST_BUCKET + _BUCKETS),
    )


COURSE_SECONDS: Final = (POINTS - 1) * POINT_SECONDS


def _rates(points: Points, place: int) -> list[float | None]:
    """Return the growth of a counter in a second. A worker that is late makes it seem to fall, for a moment."""
    return [
        max(0.0, (after[place] - before[place]) / (then - now)) if then > now else 0.0
        for (now, before), (then, after) in pairwise(points)
    ]


def _quantiles(points: Points, start: int) -> list[float | None]:
    found: list[float | None] = []
    for end in range(1, len(points)):
        before, after = points[max(0, end - WINDOW)][1], points[end][1]
        found.append(quantile([after[start + n] - before[start + n] for n in range(_BUCKETS)], 0.99))
    return found


def quantile(buckets: Sequence[float], part: float) -> float | None:
    """Return the value that such a part of what was observed is below, None of nothing. Each bucket has those below it.

    Inside a bucket all values are taken as equally likely, as Prometheus does it.
    """
    total = buckets[-1]
    if total <= 0:
        return None
    below, low = 0.0, 0.0
    for bound, count in zip(BOUNDS, buckets, strict=False):
        if count >= part * total:
            return low + (bound - low) * (part * total - below) / (count - below)
        below, low = count, bound
    return BOUNDS[-1]


def in_bytes(value: float) -> str:
    """Write a size."""
    step = 0
    while value >= 999.5 and step < len(_UNITS) - 1:
        value, step = value / 1000, step + 1
    return f"{value:.0f} {_UNITS[step]}" if step == 0 else f"{value:.3g} {_UNITS[step]}"


def in_bytes_a_second(value: float) -> str:
    """Write a rate."""
    return f"{in_bytes(value)}/s"


def in_seconds(value: float) -> str:
    """Write a short time."""
    if value < 0.001:
        return f"{value * 1_000_000:.0f} µs"
    return f"{value * 1000:.3g} ms" if value < 1 else f"{value:.3g} s"


def in_words(seconds: float) -> str:
    """Write an age."""
    if seconds < _MINUTE:
        return f"{seconds:.0f} s"
    if seconds < _HOUR:
        return f"{seconds // _MINUTE:.0f} min"
    if seconds < _DAY:
        return f"{seconds // _HOUR:.0f} h {seconds % _HOUR // _MINUTE:.0f} min"
    return f"{seconds // _DAY:.0f} d {seconds % _DAY // _HOUR:.0f} h"


def in_thousands(value: float) -> str:
    """Write a count."""
    return f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")
