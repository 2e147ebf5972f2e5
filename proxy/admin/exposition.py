"""Samples as Prometheus reads them. This module alone knows prometheus-client."""

import re
from collections.abc import Iterator
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, Metric, generate_latest
from prometheus_client.registry import Collector

from kveil.proxy.admin.catalogue import FAMILIES, Family, family_of
from kveil.proxy.admin.metrics import Samples

__all__ = ["CONTENT_TYPE", "exposition"]

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
_LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_ESCAPE: Final = re.compile(r"\\(.)")


def exposition(samples: Samples) -> bytes:
    """Return the samples in Prometheus' text format, every metric with its meaning, also where it has no sample yet."""
    return generate_latest(_Samples(samples))


class _Samples(Collector):
    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics in the catalogue's order."""
        metrics = {family: Metric(_base_name(family), family.meaning, family.kind.value) for family in FAMILIES}
        for sample, value in self._samples.items():
            name, _, labels = sample.partition("{")
            metrics[family_of(sample)].add_sample(name, _labels(labels), value)
        yield from metrics.values()


def _base_name(family: Family) -> str:
    """Return the name as the library wants it: without the suffix that it puts on counters."""
    return family.name.removesuffix("_total")


def _labels(text: str) -> dict[str, str]:
    return {name: _ESCAPE.sub(_unescaped, value) for name, value in _LABEL.findall(text)}


def _unescaped(found: re.Match[str]) -> str:
    return "\n" if found[1] == "n" else found[1]
