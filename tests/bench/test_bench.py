"""The benchmark itself: that it runs to its end, and counts right. What it finds is for people, not for a test."""

import json

import pytest

from tests.bench import __main__ as bench
from tests.bench import micro
from tests.bench.cases import CASES, CPU, GOALS, RATE, select
from tests.bench.results import Results, number
from tests.bench.ways import other_proxy


@pytest.mark.broker
def test_it_runs_to_its_end(tmp_path, capsys):
    path = tmp_path / "bench.json"
    cases = "100B-lz4-plain,1KiB-none-tls,java-1KiB-none-plain,latency-200,start"
    assert bench.main(["--shrink", "200", "--rounds", "1", "--cases", cases, "--json", str(path)]) == 0
    found = json.loads(path.read_text())
    rows = {(row["case"], row["operation"], row["metric"]): row["ways"] for row in found["results"]}
    assert found["about"]["rounds"] == 1
    for case in ("100B-lz4-plain", "java-1KiB-none-plain"):
        for operation in ("produce", "consume"):
            assert set(rows[case, operation, RATE]) == {"direct", "forwarder", "kveil"}
            assert set(rows[case, operation, CPU]) == {"forwarder", "kveil"}
    assert set(rows["1KiB-none-tls", "consume", RATE]) == {"direct", "kveil"}
    assert rows["start", "idle memory", "MB"]["kveil"]["median"] > 0
    assert rows["latency-200", "p99", "ack ms"]["direct"]["median"] > 0
    table = capsys.readouterr().out
    assert "first Metadata, s" in table
    assert "at most 0.50" in table


def test_the_micro_benchmark_runs(monkeypatch, capsys):
    monkeypatch.setattr(micro, "REPEATS", 1)
    monkeypatch.setattr(micro, "REPEAT_SECONDS", 0.0001)
    assert micro.main(["--quick"]) == 0
    printed = capsys.readouterr().out
    assert "check and seal" in printed
    assert "us a record" in printed


def test_cases_are_chosen_by_name():
    assert [case.name for case in select(["1KiB-*-plain"], quick=False)] == ["1KiB-none-plain", "1KiB-lz4-plain"]
    assert select([], quick=False) == list(CASES)
    quick = select([], quick=True)
    assert 0 < len(quick) < len(CASES)
    assert quick[0].payload_bytes < next(case for case in CASES if case.name == quick[0].name).payload_bytes
    assert bench.main(["--cases", "nonsense"]) == 2


def test_goals_are_of_cases():
    assert {case for case, _, _ in GOALS} <= {case.name for case in CASES}


def test_cases_are_listed(capsys):
    assert bench.main(["--list"]) == 0
    assert capsys.readouterr().out.split() == [case.name for case in CASES]


def test_another_proxy_is_named():
    way = other_proxy("peer=127.0.0.1:7000:4711")
    assert (way.name, way.bootstrap, way.pid) == ("peer", "127.0.0.1:7000", 4711)


def test_ratios_and_goals():
    results = Results()
    for rate in (90.0, 100.0, 200.0):
        results.add("1KiB-none-plain", "produce", RATE, "direct", rate)
        results.add("1KiB-none-plain", "produce", RATE, "kveil", rate / 2)
        results.add("1KiB-none-plain", "produce", CPU, "forwarder", 1.0)
        results.add("1KiB-none-plain", "produce", CPU, "kveil", 1.6)
    rate, cpu = results.as_json()["results"]
    assert rate["ratios"] == {"direct": 1.0, "kveil": 0.5}
    assert rate["ways"]["kveil"] == {"min": 45.0, "median": 50.0, "max": 100.0, "samples": [45.0, 50.0, 100.0]}
    assert cpu["ratios"]["kveil"] == 1.6
    assert cpu["goal"] == 3.0
    assert results.ways() == ["direct", "forwarder", "kveil"]


@pytest.mark.parametrize(("value", "text"), [(0.512, "0.51"), (12.34, "12.3"), (123.4, "123"), (-0.25, "-0.25")])
def test_numbers(value, text):
    assert number(value) == text
