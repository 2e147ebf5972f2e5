"""The benchmark itself: that it runs to its end, and counts right. What it finds is for people, not for a test."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench import __main__ as bench
from tests.bench import growth, identity_costs, micro
from tests.bench.cases import ACK, CASES, CPU, CPU_REQUEST, END_TO_END, MEMORY, RATE, STORED, Case, select
from tests.bench.client import customers
from tests.bench.goals import GOALS
from tests.bench.identities import KEY_FILE, UNSIGNED
from tests.bench.paced import Sender, _percentiles
from tests.bench.report import PAGE
from tests.bench.results import Results
from tests.bench.ways import DIRECT, FORWARDER, KVEIL, other_proxy

DOCS = Path(__file__).parents[2] / "docs" / PAGE
LOADS = (
    "100B-lz4-plain,record-1KiB,1KiB-none-tls,java-1KiB-none-plain,latency-1000,end-to-end-200,alone-1KiB,memory-load,"
    "memory-connections,start,identities-1KiB,identities-enroll,identities-1000-keys,identities-revoke"
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One run with next to no load: its cells by case, operation and metric, what it printed, and its folder."""
    folder = tmp_path_factory.mktemp("bench")
    (folder / PAGE).write_text(DOCS.read_text())
    command = [sys.executable, "-m", "tests.bench", "--shrink", "200", "--rounds", "1", "--cases", LOADS]
    done = subprocess.run(
        [*command, "--json", folder / "bench.json", "--svg", folder / "bench.svg", "--docs", folder],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((folder / "bench.json").read_text())
    rows = {(row["case"], row["operation"], row["metric"]): row["ways"] for row in found["results"]}
    return rows, done.stdout, folder


@pytest.mark.broker
class TestARun:
    def test_measures_throughput_by_every_way(self, run):
        rows, _, _ = run
        for case in ("100B-lz4-plain", "java-1KiB-none-plain", "record-1KiB"):
            for operation in ("produce", "consume"):
                assert set(rows[case, operation, RATE]) == {DIRECT, FORWARDER, KVEIL}
                assert set(rows[case, operation, CPU]) == {FORWARDER, KVEIL}
        assert set(rows["1KiB-none-tls", "consume", RATE]) == {DIRECT, KVEIL}

    def test_seals_each_record_in_record_mode_only(self, run):
        """An envelope and a header for each record take more than 50 bytes; a batch's stubs take few."""
        rows, _, _ = run
        stored = {way: cell["median"] for way, cell in rows["record-1KiB", "stored", STORED].items()}
        assert stored[KVEIL] > stored[DIRECT] + 50 / 1024
        assert stored[FORWARDER] == pytest.approx(stored[DIRECT], rel=0.02)

    def test_measures_latency(self, run):
        rows, _, _ = run
        for case, metric in (("latency-1000", ACK), ("end-to-end-200", END_TO_END)):
            for percentile in ("p50", "p95", "p99"):
                assert all(cell["median"] > 0 for cell in rows[case, percentile, metric].values())
                assert set(rows[case, f"added {percentile}", metric]) == {FORWARDER, KVEIL}
        assert set(rows["latency-1000", "request", CPU_REQUEST]) == {FORWARDER, KVEIL}

    def test_measures_one_process_alone(self, run):
        rows, _, _ = run
        for operation in ("produce", "consume"):
            assert set(rows["alone-1KiB", operation, RATE]) == {DIRECT, FORWARDER, KVEIL}

    def test_measures_memory(self, run):
        rows, _, _ = run
        assert rows["start", "idle memory", MEMORY][KVEIL]["median"] > 10
        assert rows["memory-load", "most memory", MEMORY][KVEIL]["median"] > 10
        assert rows["memory-connections", "connections", "opened"][KVEIL]["median"] == 25
        assert rows["memory-connections", "each connection", "kB"][KVEIL]["median"] > 0

    def test_measures_identities_beside_a_key_file(self, run):
        rows, _, _ = run
        for operation in ("produce", "consume"):
            assert set(rows["identities-1KiB", operation, CPU]) == {KEY_FILE, UNSIGNED, KVEIL}
        whole = rows["identities-enroll", "enroll to first sealed record", "s"][KVEIL]["median"]
        assert 0 < rows["identities-enroll", "enroll", "s"][KVEIL]["median"] < whole
        steps = ("start to listening", "start to first record", "start to all records")
        times = [rows["identities-1000-keys", step, "s"][KVEIL]["median"] for step in steps]
        assert 0 < times[0] < times[1] <= times[2]

    def test_prints_both_tables(self, run):
        _, printed, _ = run
        assert "first Metadata, s" in printed
        assert "at most 0.25" in printed
        for goal in GOALS:
            assert goal.row in printed

    def test_leaves_a_picture_and_the_docs(self, run):
        _, _, folder = run
        for name in ("bench.svg", "performance.svg"):
            assert "record-1KiB, produce" in (folder / name).read_text()
        assert json.loads((folder / "performance.json").read_text())["about"]["rounds"] == "1 round of each case"
        assert "| record-1KiB | produce, MB/s |" in (folder / PAGE).read_text()


def test_growth_counts_each_partition(monkeypatch):
    monkeypatch.setattr(growth, "SIZES", (1, 10))
    monkeypatch.setattr(growth, "METADATA_SIZES", (10, 100))
    monkeypatch.setattr(growth, "batch_costs", lambda *_: {"check and seal": 0.0, "peek and unseal": 0.0})
    monkeypatch.setattr(growth, "microseconds", lambda call: (call(), call(), 50.0)[-1])
    results = Results()
    growth.growth_round(Case(name="growth"), results)
    for name in ("Produce, plain", "Produce, sealed", "Fetch, plain", "Fetch, sealed"):
        assert results.median(("growth", f"{name}, 10", "us/partition"), KVEIL) == 5.0
    assert results.median(("growth", "Metadata, 1 partition a topic, 100", "us/partition"), KVEIL) == 0.5
    assert results.median(("growth", "Metadata, 10 partitions a topic, 100 over 10", "times"), KVEIL) == 0.1


def test_the_micro_benchmark_runs(monkeypatch, capsys):
    monkeypatch.setattr(micro, "REPEATS", 1)
    monkeypatch.setattr(micro, "REPEAT_SECONDS", 0.0001)
    assert micro.main(["--quick"]) == 0
    printed = capsys.readouterr().out
    assert "check and seal" in printed
    assert "us a record" in printed


class TestPaced:
    def sender(self, *took):
        return Sender({}, False, took=dict(enumerate(took)))

    def test_percentiles(self):
        direct = self.sender(*range(1000))
        assert _percentiles(direct, direct, range(100, 200)) == {"p50": 150, "p95": 195, "p99": 199}

    def test_what_a_way_adds_is_taken_pair_by_pair(self):
        """The medians differ by 1, the pairs by 3."""
        direct, way = self.sender(1, 5, 9), self.sender(4, 8, 6)
        found = _percentiles(way, direct, range(3))
        assert found["p50"] - 5 == 1
        assert found["added p50"] == 3


def test_keys_come_again_and_again():
    keys = customers(10_000)
    assert len(keys) > 4 * len(set(keys)) > 36_000
    assert customers(0) == [None]


class TestCases:
    def test_are_chosen_by_name(self):
        assert [case.name for case in select(["1KiB-*-plain"], quick=False)] == ["1KiB-none-plain", "1KiB-lz4-plain"]
        assert select([], quick=False) == list(CASES)
        assert bench.main(["--cases", "nonsense"]) == 2

    def test_a_quick_run_is_smaller_and_has_all_goals(self):
        quick = select([], quick=True)
        assert 0 < len(quick) < len(CASES)
        assert quick[0].payload_bytes < next(case for case in CASES if case.name == quick[0].name).payload_bytes
        assert next(case for case in quick if case.connections).connections == 5_000
        assert {goal.case for goal in GOALS} <= {case.name for case in quick}

    def test_are_listed(self, capsys):
        assert bench.main(["--list"]) == 0
        assert capsys.readouterr().out.split() == [case.name for case in CASES]

    def test_have_a_kind_that_can_be_measured(self):
        assert {case.kind for case in CASES} == set(bench.ROUND_OF)


def test_another_proxy_is_named():
    way = other_proxy("peer=127.0.0.1:7000:4711")
    assert (way.name, way.bootstrap, way.pid) == ("peer", "127.0.0.1:7000", 4711)


class TestGoals:
    @pytest.mark.broker
    def test_are_of_cells_that_a_run_has(self, run):
        rows, _, _ = run
        cells = {(kind_of(case), operation, metric) for case, operation, metric in rows}
        missing = [
            goal.row
            for goal in GOALS
            if kind_of(goal.case) not in {"growth", "workers", "identity-costs"}  # which have tests of their own
            and (kind_of(goal.case), goal.operation, goal.metric) not in cells
        ]
        assert not missing

    def test_are_of_cells_that_identities_alone_have(self, monkeypatch):
        monkeypatch.setattr(identity_costs, "microseconds", lambda call: (call(), 7_000.0)[1])
        results = Results()
        identity_costs.costs_round(Case(name="identities-alone"), results)
        assert {goal.key for goal in GOALS if goal.case == "identities-alone"} <= set(results.samples)
        assert results.median(("identities-alone", "announce to 100", "ms"), KVEIL) == 7.0
        assert results.median(("identities-alone", "seal a batch of 1 x 100 B, more for a place", "us"), KVEIL) == 0

    def test_are_of_cells_that_growth_has(self, monkeypatch):
        monkeypatch.setattr(growth, "microseconds", lambda call: 1.0)
        monkeypatch.setattr(growth, "batch_costs", lambda *_: {"check and seal": 0.0, "peek and unseal": 0.0})
        for name in ("produce_call", "fetch_call", "metadata_call"):
            monkeypatch.setattr(growth, name, lambda *_, **__: None)
        results = Results()
        growth.growth_round(Case(name="growth"), results)
        assert {goal.key for goal in GOALS if goal.case == "growth"} <= set(results.samples)


def kind_of(name):
    return next(case.kind for case in CASES if case.name == name)
