"""docs/metrics.md has every metric, with its kind, labels and meaning, and none that there isn't."""

import re
from pathlib import Path

import pytest

from kveil.proxy.admin.catalogue import FAMILIES, Family
from kveil.proxy.admin.metrics import BOUNDS, MAX_TOPICS

DOCS = Path(__file__).parents[3] / "docs" / "metrics.md"
ROW = re.compile(r"^\| `(kveil_\w+)` \| (\w+) \| ([^|]*) \| (.+) \|$", re.MULTILINE)


def test_the_metrics_are_the_documented_ones_in_their_order():
    assert [row[0] for row in ROW.findall(DOCS.read_text())] == [family.name for family in FAMILIES]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_metric_is_documented(family: Family):
    rows = {name: rest for name, *rest in ROW.findall(DOCS.read_text())}
    labels = ", ".join(f"`{label}`" for label in family.labels)
    assert rows[family.name] == [family.kind, labels, family.meaning]


def test_bounds_are_documented():
    text = DOCS.read_text()
    assert f"{MAX_TOPICS} topics" in text
    assert f"{len(BOUNDS)} buckets" in text
