"""Lines over the last minutes, as SVG that needs no script."""

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import Final, NamedTuple

WIDTH: Final = 640
HEIGHT: Final = 200
LEFT: Final = 68
"""Room for the labels of the vertical axis."""
RIGHT: Final = 8
TOP: Final = 12
BOTTOM: Final = 26
GRID_LINES: Final = 4
NONE: Final = "\N{EN DASH}"


class Line(NamedTuple):
    """One line: its name for people, its class in the style sheet, and its values, None where there are none."""

    name: str
    style: str
    values: Sequence[float | None]


def chart(title: str, lines: Sequence[Line], *, seconds: float, shown: Callable[[float], str]) -> str:
    """Return a chart of values that are evenly spread over the last `seconds`. `shown` writes a value with its unit."""
    most = nice_ceiling(max((value for line in lines for value in line.values if value is not None), default=0))
    latest = "; ".join(f"{line.name} {_latest(line, shown)}" for line in lines)
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(f"{title}, now: {latest}")}">'
        f"{_grid(most, shown)}{_times(seconds)}{''.join(_path(line, most) for line in lines)}</svg>"
        f'<p class="legend">{"".join(_entry(line, shown) for line in lines)}</p>'
    )


def nice_ceiling(value: float) -> float:
    """Return the next of 1, 2, 4 and 8 times a power of ten: quarters of these are short to write. 1 for nothing."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 4, 8, 10) if value <= step * power * (1 + 1e-9))


def _entry(line: Line, shown: Callable[[float], str]) -> str:
    return f'<span class="{line.style}">{escape(line.name)} <b>{escape(_latest(line, shown))}</b></span>'


def _latest(line: Line, shown: Callable[[float], str]) -> str:
    value = line.values[-1] if line.values else None
    return NONE if value is None else shown(value)


def _grid(most: float, shown: Callable[[float], str]) -> str:
    parts = []
    for step in range(GRID_LINES + 1):
        y = _y(step / GRID_LINES)
        label = escape(shown(most * step / GRID_LINES))
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    return "".join(parts)


def _times(seconds: float) -> str:
    minutes = max(1, round(seconds / 60))
    middle = (LEFT + WIDTH - RIGHT) / 2
    return (
        f'<text x="{LEFT}" y="{HEIGHT - 6}">{minutes} min ago</text>'
        f'<text x="{middle:.0f}" y="{HEIGHT - 6}" text-anchor="middle">{minutes / 2:g} min ago</text>'
        f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 6}" text-anchor="end">now</text>'
    )


def _path(line: Line, most: float) -> str:
    """Return the line, broken where there is no value. A value between two gaps is a dot."""
    last = max(1, len(line.values) - 1)
    pieces, is_drawing = [], False
    for place, value in enumerate(line.values):
        if value is None:
            is_drawing = False
            continue
        x, y = LEFT + (WIDTH - RIGHT - LEFT) * place / last, _y(value / most)
        pieces.append(f"L{x:.1f} {y:.1f}" if is_drawing else f"M{x:.1f} {y:.1f}h.1")
        is_drawing = True
    return f'<path class="line {line.style}" d="{"".join(pieces)}"/>' if pieces else ""


def _y(part: float) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - part)
