"""Two workers beside one: what is made of their CPU time."""

import itertools
from contextlib import nullcontext

import pytest

from tests.bench import workers
from tests.bench.cases import CPU, RATE, Case
from tests.bench.goals import GOALS
from tests.bench.results import Results
from tests.bench.ways import KVEIL, Way

LOOKS = {1: [{1: 1.0}, {1: 3.0}], 2: [{2: 0.1, 21: 1.0, 22: 1.0}, {2: 0.5, 21: 2.5, 22: 1.5, 23: 0.0}]}
"""CPU seconds by process, before and after each operation."""


class TestWorkers:
    """The processes are played: 1 works alone, 2 has the children 21 and 22, and 23 that does nothing."""

    @pytest.fixture
    def measured(self, monkeypatch):
        looks = {pid: itertools.cycle(each) for pid, each in LOOKS.items()}
        totals = {pid: itertools.cycle([sum(look.values()) for look in each]) for pid, each in LOOKS.items()}
        monkeypatch.setattr(workers, "cpu_seconds_by_process", lambda pid: next(looks[pid]))
        monkeypatch.setattr(workers, "cpu_seconds", lambda pid: next(totals[pid]))
        monkeypatch.setattr(workers, "topic_for", lambda case, name, bench: nullcontext(name))
        jobs = []

        def run_clients(given):
            jobs.extend(given)
            return [{"bytes": 125_000_000, "seconds": each} for each in range(1, len(given) + 1)]

        monkeypatch.setattr(workers, "run_clients", run_clients)
        ways = [Way(name=workers.ONE_WORKER, bootstrap="a:1", pid=1), Way(name=KVEIL, bootstrap="a:2", pid=2)]
        results = Results()
        workers.workers_round(Case(name="workers-2", payload_bytes=8 * 1024 * 10), ways, None, results)
        return results, jobs

    def test_the_second_worker_is_compared_with_one(self, measured):
        results, _ = measured
        for operation in ("produce", "consume"):
            assert results.median(("workers-2", operation, CPU), workers.ONE_WORKER) == pytest.approx(2.0)
            assert results.median(("workers-2", operation, CPU), KVEIL) == pytest.approx(2.4)
            assert results.median(("workers-2", operation, "times"), KVEIL) == pytest.approx(1.2)
            assert results.median(("workers-2", operation, "share"), KVEIL) == pytest.approx(0.75)
            assert results.median(("workers-2", operation, RATE), KVEIL) == pytest.approx(1000 / 8)
        assert {goal.key for goal in GOALS if goal.case == "workers-2"} <= set(results.samples)

    def test_the_load_is_shared_among_eight_clients(self, measured):
        _, jobs = measured
        assert len(jobs) == 2 * 2 * 8
        assert {job["records"] for job in jobs} == {10}
        assert len({job["topic"] for job in jobs}) == 8
