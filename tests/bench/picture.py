"""The results as a picture: an SVG with bars, readable on light and dark pages, written by hand."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from tests.bench.cases import ACK, CASES, CPU
from tests.bench.results import Results, number
from tests.bench.ways import DIRECT, FORWARDER, KVEIL

HEADLINE = "What Kveil costs, beside a forwarder that looks at nothing"
WIDTH, LABELS, BARS, MARGIN = 860, 250, 500, 16
BAR, GAP, TITLE, HEAD = 13, 9, 44, 56
COLOURS = {FORWARDER: "#8b98a9", KVEIL: "#17a34a"}
OTHERS = ("#d97706", "#7c5cd6", "#0e8fb3", "#c2415d")
STYLE = """
    text { font-family: system-ui, sans-serif; font-size: 13px; fill: #1f2937 }
    .headline { font-weight: 600; font-size: 17px }
    .title { font-weight: 600 }
    .small { font-size: 12px; fill: #4b5563 }
    .page { fill: #ffffff }
    .axis { stroke: #9ca3af; stroke-width: 1 }
    @media (prefers-color-scheme: dark) {
      text { fill: #e5e7eb }
      .small { fill: #b6bec9 }
      .page { fill: #0d1117 }
    }
"""


@dataclass(frozen=True, slots=True)
class Group:
    """Bars that belong together: a name, and a figure for each way."""

    name: str
    bars: dict[str, float]


@dataclass(frozen=True, slots=True)
class Panel:
    """Groups on one scale."""

    title: str
    groups: list[Group]


def picture(results: Results) -> str:
    """The SVG."""
    panels = [panel for panel in panels_of(results) if panel.groups]
    ways = [way for way in results.ways() if any(way in group.bars for panel in panels for group in panel.groups)]
    others = [way for way in ways if way not in COLOURS]
    colours = COLOURS | {way: OTHERS[place % len(OTHERS)] for place, way in enumerate(others)}
    parts = list(_legend(ways, colours))
    y = MARGIN + HEAD
    for panel in panels:
        drawn, y = _panel(panel, colours, y)
        parts += drawn
    height = y + MARGIN
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img" aria-label="{HEADLINE}">'
    )
    page = f'<rect class="page" width="{WIDTH}" height="{height}"/>'
    lines = [head, f"  <style>{STYLE}  </style>", f"  {page}", *(f"  {part}" for part in parts), "</svg>"]
    return "\n".join(lines) + "\n"


def panels_of(results: Results) -> list[Panel]:
    """What is drawn. Record mode has a scale of its own: it would make all other bars short."""
    unit = "CPU seconds of the process in between, per GB of payload"
    return [
        Panel(f"{unit}: batch mode", list(_cpu_groups(results, in_record_mode=False))),
        Panel(f"{unit}: record mode", list(_cpu_groups(results, in_record_mode=True))),
        Panel("milliseconds added to an acknowledgement, median", list(_latency_groups(results))),
    ]


def _cpu_groups(results: Results, *, in_record_mode: bool) -> Iterator[Group]:
    for case in CASES:
        if case.kind != "throughput" or bool(case.keys) is not in_record_mode:
            continue
        for operation in ("produce", "consume"):
            yield from _group(results, f"{case.name}, {operation}", (case.name, operation, CPU))


def _latency_groups(results: Results) -> Iterator[Group]:
    for case in CASES:
        if case.kind == "latency":
            name = f"{case.messages_per_second:,} messages per s"
            yield from _group(results, name, (case.name, "added p50", ACK))


def _group(results: Results, name: str, key: tuple[str, str, str]) -> Iterator[Group]:
    medians = {way: results.median(key, way) for way in results.ways() if way != DIRECT}
    bars = {way: value for way, value in medians.items() if value is not None}
    if bars:
        yield Group(name, bars)


def _legend(ways: Sequence[str], colours: dict[str, str]) -> Iterator[str]:
    yield f'<text class="headline" x="{MARGIN}" y="{MARGIN + 14}">{HEADLINE}</text>'
    x, y = MARGIN, MARGIN + 42
    for way in ways:
        yield f'<rect x="{x}" y="{y - 11}" width="12" height="12" rx="2" fill="{colours[way]}"/>'
        yield f'<text x="{x + 18}" y="{y}">{escape(way)}</text>'
        x += 40 + 8 * len(way)
    yield f'<text class="small" x="{x}" y="{y}">direct: no process in between, so none</text>'


def _panel(panel: Panel, colours: dict[str, str], top: int) -> tuple[list[str], int]:
    """Its parts, and where the next one begins."""
    most = max((max(group.bars.values()) for group in panel.groups), default=0.0)
    scale = BARS / most if most > 0 else 0.0
    parts = [f'<text class="title" x="{MARGIN}" y="{top + 26}">{escape(panel.title)}</text>']
    y = top + TITLE
    for group in panel.groups:
        middle = y + len(group.bars) * BAR / 2 + 4
        parts.append(f'<text x="{LABELS - 8}" y="{middle:.0f}" text-anchor="end">{escape(group.name)}</text>')
        for way, value in group.bars.items():
            width = max(value * scale, 1.0)
            parts.append(
                f'<rect x="{LABELS}" y="{y}" width="{width:.1f}" height="{BAR - 2}" fill="{colours[way]}">'
                f"<title>{escape(f'{group.name}, {way}: {number(value)}')}</title></rect>"
            )
            parts.append(f'<text class="small" x="{LABELS + width + 6:.1f}" y="{y + 10}">{number(value)}</text>')
            y += BAR
        y += GAP
    parts.append(f'<path class="axis" d="M{LABELS} {top + TITLE - 4}V{y - GAP + 2}"/>')
    return parts, y
