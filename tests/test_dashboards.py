"""deploy/dashboards names only metrics and labels that there are, and docs/metrics.md lists the alerts."""

import json
import re
from pathlib import Path

import pytest
import yaml

from kveil.proxy.admin.catalogue import FAMILIES, SERIES, Kind

ROOT = Path(__file__).parent.parent
DASHBOARD = json.loads((ROOT / "deploy/dashboards/grafana.json").read_text())
(GROUP,) = yaml.safe_load((ROOT / "deploy/dashboards/alerts.yaml").read_text())["groups"]
ALERTS = GROUP["rules"]
DOCUMENTED = re.findall(r"^\| `(Kveil\w+)` \| (\w+) \|", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE)

EXPRESSIONS = [
    *((panel["title"], target["expr"]) for panel in DASHBOARD["panels"] for target in panel["targets"]),
    *((rule["alert"], rule["expr"]) for rule in ALERTS),
]
OF_ALL_SERIES = {"instance", "job"}
"""Labels that Prometheus itself puts on."""


def series_in(text: str) -> list[str]:
    return re.findall(r"\bkveil_\w+", text)


def labels_in(expression: str) -> set[str]:
    inside = re.findall(r"\{([^}]*)\}", expression)
    grouped = re.findall(r"\bby \(([^)]*)\)", expression)
    return {label for text in inside for label in re.findall(r"(\w+)\s*[=!]", text)} | {
        label.strip() for text in grouped for label in text.split(",")
    }


@pytest.mark.parametrize(("where", "expression"), EXPRESSIONS, ids=[where for where, _ in EXPRESSIONS])
class TestEveryExpression:
    def test_names_metrics_that_there_are(self, where, expression):
        names = series_in(expression)
        assert set(names) <= set(SERIES)
        assert names or expression == 'up{job="kveil"} == 0'

    def test_names_labels_that_they_have(self, where, expression):
        known = {label for name in series_in(expression) for label in SERIES[name].labels}
        known |= OF_ALL_SERIES | ({"le"} if "_bucket" in expression else set())
        assert labels_in(expression) <= known

    def test_takes_rates_of_what_grows_only(self, where, expression):
        """A counter by itself says nothing, and a gauge has no rate."""
        for name in series_in(expression):
            is_rate = re.search(rf"\b(rate|increase)\({name}\b", expression) is not None
            assert is_rate is (SERIES[name].kind is not Kind.GAUGE)

    def test_is_balanced(self, where, expression):
        for opening, closing in ("()", "[]", "{}"):
            assert expression.count(opening) == expression.count(closing)


def test_every_metric_that_is_worth_a_look_has_one():
    shown = {SERIES[name] for _, expression in EXPRESSIONS for name in series_in(expression)}
    left = {family.name for family in FAMILIES if family not in shown}
    assert left - {"kveil_config_loaded_timestamp_seconds", "kveil_checkpoint_number", "kveil_members"} == {
        f"kveil_{name}_total"
        for name in (
            *("sealed_batches", "sealed_records", "opened_batches", "opened_records"),
            *("topic_sealed_batches", "topic_sealed_bytes", "topic_opened_batches", "topic_opened_bytes"),
        )
    }


def test_legends_name_labels_that_are_left():
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            wanted = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            grouped = re.findall(r"\bby \(([^)]*)\)", target["expr"])
            assert wanted <= {label.strip() for text in grouped for label in text.split(",")}, panel["title"]


def test_panels_have_places_of_their_own():
    taken = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken
        assert place["x"] + place["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_says_what_to_do(rule):
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert len(rule["annotations"]["summary"]) > 20
    assert len(rule["annotations"]["description"]) > 40
    for label in re.findall(r"\$labels\.(\w+)", str(rule["annotations"])):
        known = {label for name in series_in(rule["expr"]) for label in SERIES[name].labels}
        assert label in known | OF_ALL_SERIES
    for path in re.findall(r"docs/\w+\.md", str(rule["annotations"])):
        assert (ROOT / path).is_file()


def test_alerts_are_documented():
    assert [(rule["alert"], rule["labels"]["severity"]) for rule in ALERTS] == DOCUMENTED
