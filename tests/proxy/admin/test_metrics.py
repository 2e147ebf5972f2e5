"""What is counted, and the sum over processes."""

import pytest

from kveil.proxy.admin.metrics import BOUNDS, CONNECTIONS_OPEN, MAX_TOPICS, Histogram, Metrics, MetricsSum, for_log
from tests.support.fetching import fetch
from tests.support.producing import PRODUCE
from tests.support.records import client_batch, produced, sealed

METADATA = 3
RULES = [{"match": "t", "mode": "batch"}, {"match": "logs", "seal": "none"}]
THREE = client_batch(3)


@pytest.fixture
def talk(converse):
    return converse(topics=RULES)


def counts(talk):
    """What isn't 0, without single topics."""
    return {name: value for name, value in for_log(talk.shared.metrics.samples()).items() if value}


def test_sealed_batches(talk):
    talk.client(PRODUCE, 9, produced({"t": {0: THREE, 1: THREE}, "logs": {0: THREE}}))
    assert counts(talk) == {
        'kveil_requests_total{api="Produce"}': 1,
        "kveil_sealed_batches_total": 2,
        "kveil_sealed_records_total": 6,
        "kveil_sealed_bytes_total": 2 * len(THREE),
        'kveil_added_seconds_count{work="seal"}': 1,
    }


def test_opened_batches(talk, writer):
    fetch(talk, {"t": {0: sealed(writer, "t", 0, THREE)}, "logs": {0: THREE}})
    assert counts(talk) == {
        'kveil_requests_total{api="Fetch"}': 1,
        "kveil_opened_batches_total": 1,
        "kveil_opened_records_total": 3,
        "kveil_opened_bytes_total": len(THREE),
        'kveil_added_seconds_count{work="open"}': 1,
    }


def test_topics_by_themselves(talk, converse, writer):
    talk.client(PRODUCE, 9, produced({"t": {0: THREE}, "u": {0: THREE, 1: THREE}, "logs": {0: THREE}}))
    fetch(converse(shared=talk.shared), {"t": {0: sealed(writer, "t", 0, THREE)}})
    found = {name: value for name, value in talk.shared.metrics.samples().items() if "{topic=" in name and value}
    assert found == {
        'kveil_topic_sealed_batches_total{topic="t"}': 1,
        'kveil_topic_sealed_batches_total{topic="u"}': 2,
        'kveil_topic_sealed_records_total{topic="t"}': 3,
        'kveil_topic_sealed_records_total{topic="u"}': 6,
        'kveil_topic_sealed_bytes_total{topic="t"}': len(THREE),
        'kveil_topic_sealed_bytes_total{topic="u"}': 2 * len(THREE),
        'kveil_topic_opened_batches_total{topic="t"}': 1,
        'kveil_topic_opened_records_total{topic="t"}': 3,
        'kveil_topic_opened_bytes_total{topic="t"}': len(THREE),
    }


def test_topics_beyond_the_bound_are_counted_together():
    metrics = Metrics()
    for number in range(MAX_TOPICS + 3):
        metrics.count_sealed(f"t{number}", 2, 10)
    metrics.count_sealed("t0", 2, 10)
    metrics.count_opened(f"t{MAX_TOPICS}", 1, [b"12345"])
    samples = metrics.samples()
    assert samples['kveil_topic_sealed_batches_total{topic="(other)"}'] == 3
    assert samples['kveil_topic_sealed_batches_total{topic="t0"}'] == 2
    assert samples['kveil_topic_opened_bytes_total{topic="(other)"}'] == 5
    assert samples["kveil_sealed_batches_total"] == MAX_TOPICS + 4
    assert len(metrics.topics) == MAX_TOPICS + 1


def test_what_a_frame_waits_for_is_part_of_what_is_added(converse):
    talk = converse(topics=RULES)
    talk.park(PRODUCE, 9, produced({"t": {0: THREE}}))
    talk.clock.now += 0.2
    talk.meet()
    samples = talk.shared.metrics.samples()
    assert samples['kveil_added_seconds_sum{work="seal"}'] == pytest.approx(0.2)
    assert samples['kveil_added_seconds_bucket{work="seal",le="0.1"}'] == 0
    assert samples['kveil_added_seconds_bucket{work="seal",le="0.25"}'] == 1


def test_frames_without_records_are_not_timed(talk):
    fetch(talk, {"t": {0: b""}})
    talk.client(METADATA, 12, {"topics": None})
    assert sum(talk.shared.metrics.open_seconds.counts) == 0
    assert sum(talk.shared.metrics.seal_seconds.counts) == 0


def test_refusals(talk, writer):
    talk.client(PRODUCE, 9, produced({"t": {0: b"\0" * 100}}))
    assert len(talk.to_client) == 1
    fetch(talk, {"t": {0: THREE, 1: THREE}})
    refusals = {name: value for name, value in counts(talk).items() if "refusals" in name}
    assert refusals == {
        'kveil_refusals_total{error="CORRUPT_MESSAGE"}': 2,
        'kveil_refusals_total{error="INVALID_RECORD"}': 1,
    }
    recent = list(talk.shared.metrics.recent_refusals)
    assert [(one.topic, one.partition, one.error) for one in recent] == [
        ("t", 0, "INVALID_RECORD"),
        ("t", 0, "CORRUPT_MESSAGE"),
        ("t", 1, "CORRUPT_MESSAGE"),
    ]
    assert "no envelope" in recent[1].reason or "not sealed" in recent[1].reason, recent[1].reason


class TestHistogram:
    def test_buckets_hold_those_below(self):
        histogram = Histogram()
        for seconds in (BOUNDS[0], BOUNDS[0] * 1.01, 1e9):
            histogram.observe(seconds)
        samples = histogram.samples("h", work="x")
        assert samples['h_bucket{work="x",le="0.0001"}'] == 1  # a bound is in its own bucket
        assert samples['h_bucket{work="x",le="0.00025"}'] == 2
        assert samples['h_bucket{work="x",le="10.0"}'] == 2
        assert samples['h_bucket{work="x",le="+Inf"}'] == samples['h_count{work="x"}'] == 3
        assert samples['h_sum{work="x"}'] == pytest.approx(1e9)
        assert len(samples) == len(BOUNDS) + 3


def test_the_time_of_a_key_call_that_fails_counts():
    metrics = Metrics()
    with pytest.raises(RuntimeError), metrics.key_call("vault", "wrap"):
        raise RuntimeError
    assert metrics.samples()['kveil_key_call_seconds_count{service="vault",operation="wrap"}'] == 1


OPENED, SEALED = "kveil_opened_batches_total", "kveil_sealed_batches_total"
AGE, EXPIRY = "kveil_epoch_key_age_seconds", 'kveil_certificate_expiry_timestamp_seconds{certificate="a"}'


class TestSum:
    def test_over_processes(self):
        total = MetricsSum()
        total.update(1, {CONNECTIONS_OPEN: 2, OPENED: 3})
        total.update(2, {CONNECTIONS_OPEN: 1, OPENED: 4, SEALED: 1})
        total.update(2, {CONNECTIONS_OPEN: 4, OPENED: 5, SEALED: 1})
        assert total.samples() == {OPENED: 8, SEALED: 1, CONNECTIONS_OPEN: 6}

    def test_what_a_dead_one_counted_stays(self):
        """What it held is gone with it."""
        total = MetricsSum()
        total.update(1, {CONNECTIONS_OPEN: 2, OPENED: 3, AGE: 100})
        total.retire(1)
        total.retire(2)  # which never reported
        total.update(3, {CONNECTIONS_OPEN: 1, OPENED: 1, AGE: 5})
        assert total.samples() == {OPENED: 4, CONNECTIONS_OPEN: 1, AGE: 5}

    def test_ages_and_times_are_not_added_up(self):
        total = MetricsSum()
        total.update(1, {AGE: 7, EXPIRY: 1000})
        total.update(2, {AGE: 9, EXPIRY: 900})
        assert total.samples() == {AGE: 9, EXPIRY: 900, CONNECTIONS_OPEN: 0}

    def test_of_nobody(self):
        assert MetricsSum().samples() == {CONNECTIONS_OPEN: 0}
