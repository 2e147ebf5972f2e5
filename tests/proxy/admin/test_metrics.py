"""What is counted, and the sum over processes."""

import re

import pytest

from kveil.proxy.admin.metrics import CONNECTIONS_OPEN, Metrics, MetricsSum
from kveil.proxy.errors import ErrorCode
from tests.support.fetching import fetch
from tests.support.producing import PRODUCE
from tests.support.records import client_batch, produced, sealed

RULES = [{"match": "t", "mode": "batch"}, {"match": "logs", "seal": "none"}]
THREE = client_batch(3)


@pytest.fixture
def talk(converse):
    return converse(topics=RULES)


def counts(talk):
    """What isn't 0."""
    return {name: value for name, value in talk.shared.metrics.samples().items() if value}


def test_sealed_batches(talk):
    talk.client(PRODUCE, 9, produced({"t": {0: THREE, 1: THREE}, "logs": {0: THREE}}))
    assert counts(talk) == {
        'kveil_requests_total{api="Produce"}': 1,
        "kveil_sealed_batches_total": 2,
        "kveil_sealed_records_total": 6,
        "kveil_sealed_bytes_total": 2 * len(THREE),
    }


def test_opened_batches(talk, writer):
    fetch(talk, {"t": {0: sealed(writer, "t", 0, THREE)}, "logs": {0: THREE}})
    assert counts(talk) == {
        'kveil_requests_total{api="Fetch"}': 1,
        "kveil_opened_batches_total": 1,
        "kveil_opened_records_total": 3,
        "kveil_opened_bytes_total": len(THREE),
    }


def test_refusals(talk, writer):
    talk.client(PRODUCE, 9, produced({"t": {0: b"\0" * 100}}))
    assert len(talk.to_client) == 1
    fetch(talk, {"t": {0: THREE, 1: THREE}})
    refusals = {name: value for name, value in counts(talk).items() if "refusals" in name}
    assert refusals == {
        'kveil_refusals_total{error="CORRUPT_MESSAGE"}': 2,
        'kveil_refusals_total{error="INVALID_RECORD"}': 1,
    }


def test_names_are_prometheus_way():
    metrics = Metrics()
    metrics.requests[0] += 1
    metrics.refusals[ErrorCode.MESSAGE_TOO_LARGE] += 1
    names = list(metrics.samples())
    assert all(re.fullmatch(r'kveil_[a-z_]+(_total)?({[a-z]+="[A-Za-z_]+"})?', name) for name in names)
    assert [name for name in names if "_total" not in name] == [CONNECTIONS_OPEN]


class TestSum:
    def test_over_processes(self):
        total = MetricsSum()
        total.update(1, {CONNECTIONS_OPEN: 2, "a_total": 3})
        total.update(2, {CONNECTIONS_OPEN: 1, "a_total": 4, "b_total": 1})
        total.update(2, {CONNECTIONS_OPEN: 4, "a_total": 5, "b_total": 1})
        assert total.samples() == {"a_total": 8, "b_total": 1, CONNECTIONS_OPEN: 6}

    def test_what_a_dead_one_counted_stays(self):
        total = MetricsSum()
        total.update(1, {CONNECTIONS_OPEN: 2, "a_total": 3})
        total.retire(1)
        total.retire(2)  # which never reported
        total.update(3, {CONNECTIONS_OPEN: 1, "a_total": 1})
        assert total.samples() == {"a_total": 4, CONNECTIONS_OPEN: 1}

    def test_of_nobody(self):
        assert MetricsSum().samples() == {CONNECTIONS_OPEN: 0}
