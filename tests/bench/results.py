"""What was measured: samples in, medians and ratios out."""

import json
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tests.bench.cases import CPU, CPU_REQUEST, GOALS
from tests.bench.ways import DIRECT, FORWARDER, KVEIL

WIDTH = 140
Key = tuple[str, str, str]
"""Case, operation, metric."""


@dataclass(slots=True)
class Results:
    """All samples of a run."""

    samples: dict[Key, dict[str, list[float]]] = field(default_factory=dict)

    def add(self, case: str, operation: str, metric: str, way: str, value: float) -> None:
        """Take one sample."""
        self.samples.setdefault((case, operation, metric), {}).setdefault(way, []).append(value)

    def median(self, key: Key, way: str) -> float | None:
        """The median of one cell, None if it is empty."""
        values = self.samples.get(key, {}).get(way)
        return statistics.median(values) if values else None

    def ratios(self, key: Key) -> dict[str, float]:
        """Each way's median over that of the way that it is compared with."""
        base = self.median(key, _base(key))
        ways = self.samples[key]
        if not base:
            return {}
        return {way: statistics.median(values) / base for way, values in ways.items()}

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        rows = []
        for (case, operation, metric), ways in self.samples.items():
            key = (case, operation, metric)
            rows.append(
                {
                    "case": case,
                    "operation": operation,
                    "metric": metric,
                    "goal": GOALS.get(key),
                    "ways": {way: summary(values) | {"samples": values} for way, values in ways.items()},
                    "ratios": self.ratios(key),
                }
            )
        return {"results": rows}

    def write_json(self, path: Path, about: dict[str, Any]) -> None:
        """Write them to a file, with what is known about the run."""
        path.write_text(json.dumps({"about": about, **self.as_json()}, indent=2) + "\n")

    def ways(self) -> list[str]:
        """The names of all ways, the usual ones in front."""
        seen = {way for ways in self.samples.values() for way in ways}
        usual = [name for name in (DIRECT, FORWARDER, KVEIL) if name in seen]
        return usual + sorted(seen - set(usual))

    def table(self) -> Table:
        """For people."""
        title = escape("median [minimum maximum] and its ratio to direct, that of CPU time to the forwarder")
        table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
        table.add_column("case", no_wrap=True)
        table.add_column("", no_wrap=True)
        ways = self.ways()
        for heading in (*ways, "goal"):
            table.add_column(heading, justify="right", no_wrap=True)
        before = None
        for key in self.samples:
            case, operation, metric = key
            ratios = self.ratios(key)
            cells = [self._cell(key, way, ratios.get(way)) for way in ways]
            table.add_row("" if case == before else case, f"{operation}, {metric}", *cells, self._goal(key))
            before = case
        return table

    def _cell(self, key: Key, way: str, ratio: float | None) -> str:
        values = self.samples[key].get(way)
        if not values:
            return ""
        found = summary(values)
        text = number(found["median"])
        if len(values) > 1:
            text += escape(f" [{number(found['min'])} {number(found['max'])}]")
        return text if ratio is None or way == _base(key) else f"{text} {ratio:.2f}x"

    def _goal(self, key: Key) -> str:
        goal, found = GOALS.get(key), self.median(key, KVEIL)
        if goal is None or found is None:
            return ""
        return f"{'met' if found <= goal else 'MISSED'}: at most {number(goal)}"


def _base(key: Key) -> str:
    """What a metric is compared with. Nobody spends CPU time on the direct way."""
    return FORWARDER if key[2] in {CPU, CPU_REQUEST} else DIRECT


def summary(values: Iterable[float]) -> dict[str, float]:
    """Minimum, median and maximum."""
    ordered = sorted(values)
    return {"min": ordered[0], "median": statistics.median(ordered), "max": ordered[-1]}


def number(value: float) -> str:
    """Three digits that count."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def print_table(results: Results) -> None:
    """The table on a terminal or in a pipe."""
    Console(highlight=False, width=max(Console().width, WIDTH)).print(results.table())
