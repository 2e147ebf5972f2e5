"""The results as tables: on a terminal, and in Markdown."""

from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tests.bench.goals import Verdict, goals_of, verdicts
from tests.bench.results import Key, Results, base_of, number, summary
from tests.bench.ways import KVEIL

WIDTH = 240
"""Columns at least: rich would cut figures off."""
ALL_TITLE = "median [minimum maximum] and its ratio to direct, that of CPU time to the forwarder"
GOAL_TITLE = "the goals"
GOAL_HEADINGS = ("what", "goal", "found", "")


def print_tables(results: Results) -> None:
    """Both tables, on a terminal or in a pipe."""
    console = Console(highlight=False, width=max(Console().width, WIDTH))
    table = Table(box=box.SIMPLE_HEAD, title=escape(ALL_TITLE), title_justify="left")
    table.add_column("case", no_wrap=True)
    table.add_column("", no_wrap=True)
    for heading in (*results.ways(), "goal"):
        table.add_column(heading, justify="right", no_wrap=True)
    before = ""
    for case, *cells in rows(results):
        table.add_row("" if case == before else case, *map(escape, cells))
        before = case
    console.print(table)
    table = Table(*GOAL_HEADINGS, box=box.SIMPLE_HEAD, title=GOAL_TITLE, title_justify="left")
    for row in goal_rows(results):
        table.add_row(*map(escape, row))
    console.print(table)


def markdown(headings: Sequence[str], lines: Iterator[Sequence[str]]) -> str:
    """A table in Markdown."""
    rule = ["---"] * len(headings)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (headings, rule, *lines))


def markdown_tables(results: Results) -> tuple[str, str]:
    """The goals, and everything."""
    everything = markdown(("case", "", *results.ways(), "goal"), rows(results))
    return markdown(GOAL_HEADINGS, goal_rows(results)), everything


def rows(results: Results) -> Iterator[list[str]]:
    """A line for each cell: case, what, each way, goals."""
    for key in results.samples:
        case, operation, metric = key
        ratios = results.ratios(key)
        cells = [_cell(results, key, way, ratios.get(way)) for way in results.ways()]
        yield [case, f"{operation}, {metric}", *cells, _goals(results, key)]


def goal_rows(results: Results) -> Iterator[tuple[str, str, str, str]]:
    """A line for each goal: what, goal, found, met or by how much not."""
    for verdict in verdicts(results):
        yield verdict.goal.row, verdict.goal.bound, verdict.shown, verdict.words


def _cell(results: Results, key: Key, way: str, ratio: float | None) -> str:
    values = results.samples[key].get(way)
    if not values:
        return ""
    found = summary(values)
    text = number(found["median"])
    if len(values) > 1:
        text += f" [{number(found['min'])} {number(found['max'])}]"
    return text if ratio is None or way == base_of(key) else f"{text} {ratio:.2f}x"


def _goals(results: Results, key: Key) -> str:
    if results.median(key, KVEIL) is None:
        return ""
    return "; ".join(_short(verdict) for verdict in verdicts(results, goals_of(key)))


def _short(verdict: Verdict) -> str:
    word = "met" if verdict.is_met else "not measured" if verdict.found is None else "MISSED"
    return f"{word}: {verdict.goal.bound}"
