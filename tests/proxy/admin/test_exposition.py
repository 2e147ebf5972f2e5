"""What Prometheus reads, read by the parser of its own library."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from kveil.proxy.admin.catalogue import FAMILIES, Kind
from kveil.proxy.admin.exposition import CONTENT_TYPE, exposition
from kveil.proxy.admin.metrics import Metrics


def read(samples):
    families = text_string_to_metric_families(exposition(samples).decode())
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value for family in families for sample in family.samples
    }


def test_values_come_back():
    metrics = Metrics(connections=7)
    metrics.requests[0] += 2
    metrics.seal_seconds.observe(0.02)
    found = read(metrics.samples())
    assert found["kveil_connections_total",] == 7
    assert found["kveil_requests_total", "Produce"] == 2
    assert found["kveil_added_seconds_bucket", "0.025", "seal"] == 1
    assert found["kveil_added_seconds_bucket", "0.01", "seal"] == 0
    assert found["kveil_added_seconds_sum", "seal"] == pytest.approx(0.02)
    assert found["kveil_added_seconds_count", "open"] == 0


@pytest.mark.parametrize("topic", ['a"b', "a\\b", "a\nb", "a,b={}", "\\n", 'x="y"', ""])
def test_names_that_no_topic_should_have(topic):
    """Clients send any, and a broken line would lose all metrics."""
    metrics = Metrics()
    metrics.count_sealed(topic, 3, 10)
    assert read(metrics.samples())["kveil_topic_sealed_records_total", topic] == 3


def test_every_metric_is_described_also_without_samples():
    text = exposition({}).decode()
    for family in FAMILIES:
        assert f"# TYPE {family.name} {family.kind}" in text
        assert f"# HELP {family.name} {family.meaning}" in text


def test_names_are_prometheus_way():
    for family in FAMILIES:
        assert family.name.startswith("kveil_")
        assert family.name.endswith("_total") is (family.kind is Kind.COUNTER)
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)


def test_the_content_type_is_text():
    assert CONTENT_TYPE.startswith("text/plain; version=")
