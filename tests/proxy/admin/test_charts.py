"""Lines as SVG."""

import re
from xml.etree import ElementTree as ET

import pytest

from kveil.proxy.admin.charts import HEIGHT, WIDTH, Line, chart, nice_ceiling

SVG = re.compile(r"<svg.*</svg>", re.DOTALL)


def drawn(*lines: Line) -> str:
    return chart("Load", lines, seconds=300, shown=lambda value: f"{value:g} <x>")


def paths(text: str) -> list[str]:
    root = ET.fromstring(SVG.search(text)[0])
    return [path.get("d") for path in root.iter("path") if "line" in path.get("class")]


def test_a_line():
    (path,) = paths(drawn(Line("a", "s", [0, 4, 8])))
    points = [tuple(map(float, point)) for point in re.findall(r"[ML]([\d.]+) ([\d.]+)", path)]
    assert [x for x, _ in points] == sorted(x for x, _ in points)
    assert [y for _, y in points] == sorted((y for _, y in points), reverse=True)  # upwards
    assert points[-1][0] == WIDTH - 8
    assert all(0 <= y <= HEIGHT for _, y in points)


def test_gaps_are_not_drawn_over():
    (path,) = paths(drawn(Line("a", "s", [1, 1, None, 1, None])))
    assert re.sub(r"[^MLh]", "", path) == "MhLMh"


@pytest.mark.parametrize("values", [[], [None], [None, None], [0], [0, 0]])
def test_next_to_nothing(values):
    assert len(paths(drawn(Line("a", "s", values)))) == (0 in values)


def test_it_can_be_heard():
    """Who doesn't see the lines is told what they say now."""
    root = ET.fromstring(SVG.search(drawn(Line("in & out", "s", [1, 2]), Line("b", "t", [None])))[0])
    assert root.get("role") == "img"
    assert root.get("aria-label") == "Load, now: in & out 2 <x>; b \N{EN DASH}"


@pytest.mark.parametrize(
    ("value", "ceiling"),
    [(0, 1), (-1, 1), (1, 1), (1.1, 2), (3, 4), (7, 8), (9, 10), (10, 10), (0.03, 0.04), (81, 100)],
)
def test_axes_end_at_round_numbers(value, ceiling):
    assert nice_ceiling(value) == pytest.approx(ceiling)
