"""What was measured: samples in, medians and ratios out."""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.bench.cases import CPU, CPU_REQUEST
from tests.bench.ways import DIRECT, FORWARDER, KVEIL

Key = tuple[str, str, str]
"""Case, operation, metric."""


@dataclass(slots=True)
class Results:
    """All samples of a run."""

    samples: dict[Key, dict[str, list[float]]] = field(default_factory=dict)

    def add(self, case: str, operation: str, metric: str, way: str, value: float) -> None:
        """Take one sample."""
        self.samples.setdefault((case, operation, metric), {}).setdefault(way, []).append(value)

    @classmethod
    def from_json(cls, rows: Iterable[dict[str, Any]]) -> "Results":
        """What `as_json` has made."""
        made = cls()
        for row in rows:
            cells = {way: cell["samples"] for way, cell in row["ways"].items()}
            made.samples[row["case"], row["operation"], row["metric"]] = cells
        return made

    def beside(self, older: "Results") -> "Results":
        """These, and those of an older run whose cases were not run again."""
        again = {key[0] for key in self.samples}
        return Results({key: ways for key, ways in older.samples.items() if key[0] not in again} | self.samples)

    def median(self, key: Key, way: str) -> float | None:
        """The median of one cell, None if it is empty."""
        values = self.samples.get(key, {}).get(way)
        return statistics.median(values) if values else None

    def ratio(self, key: Key, way: str, base: str) -> float | None:
        """One way over another: the median of the rounds' ratios, since a round's two were taken side by side.

        None if one of them wasn't measured.
        """
        ways = self.samples.get(key, {})
        pairs = [(value, under) for value, under in zip(ways.get(way, ()), ways.get(base, ()), strict=False) if under]
        return statistics.median(value / under for value, under in pairs) if pairs else None

    def ratios(self, key: Key) -> dict[str, float]:
        """Each way over the one that it is compared with."""
        found = {way: self.ratio(key, way, base_of(key)) for way in self.samples[key]}
        return {way: ratio for way, ratio in found.items() if ratio is not None}

    def as_json(self) -> list[dict[str, Any]]:
        """For machines."""
        return [
            {
                "case": key[0],
                "operation": key[1],
                "metric": key[2],
                "ways": {way: summary(values) | {"samples": values} for way, values in ways.items()},
                "ratios": self.ratios(key),
            }
            for key, ways in self.samples.items()
        ]

    def ways(self) -> list[str]:
        """The names of all ways, the usual ones in front."""
        seen = {way for ways in self.samples.values() for way in ways}
        usual = [name for name in (DIRECT, FORWARDER, KVEIL) if name in seen]
        return usual + sorted(seen - set(usual))


def base_of(key: Key) -> str:
    """What a metric is compared with. Nobody spends CPU time on the direct way."""
    return FORWARDER if key[2] in {CPU, CPU_REQUEST} else DIRECT


def summary(values: Iterable[float]) -> dict[str, float]:
    """Minimum, median and maximum."""
    ordered = sorted(values)
    return {"min": ordered[0], "median": statistics.median(ordered), "max": ordered[-1]}


def number(value: float) -> str:
    """Three digits that count."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
