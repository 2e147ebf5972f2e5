"""What the benchmark makes of its samples: ratios, verdicts, the picture, the page."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.bench.cases import ACK, CASES, CPU, RATE
from tests.bench.goals import GOALS, Goal, Verdict, goals_of, verdicts
from tests.bench.picture import picture
from tests.bench.report import BEGIN, END, PAGE, SAMPLES, as_json, write_docs
from tests.bench.results import Results, number
from tests.bench.ways import DIRECT, FORWARDER, KVEIL

DOCS = Path(__file__).parents[2] / "docs" / PAGE
ABOUT = {
    "load_average_before": (0.5, 0.4, 0.3),
    "python": "3.13",
    "cpus": 2,
    "memory_bytes": 8e9,
    "rounds": "1 round of each case",
    "quick": True,
    "seconds": 60.0,
}


@pytest.fixture
def results():
    found = Results()
    for rate in (90.0, 100.0, 200.0):
        found.add("1KiB-none-plain", "produce", RATE, DIRECT, rate)
        found.add("1KiB-none-plain", "produce", RATE, KVEIL, rate / 2)
        found.add("1KiB-none-plain", "produce", CPU, FORWARDER, 1.0)
        found.add("1KiB-none-plain", "produce", CPU, KVEIL, 1.6)
        found.add("1KiB-none-plain", "produce", CPU, "an <odd> & other", 3.0)
    return found


class TestResults:
    def test_summaries_and_ratios(self, results):
        rate, cpu = results.as_json()
        assert rate["ratios"] == {DIRECT: 1.0, KVEIL: 0.5}
        assert rate["ways"][KVEIL] == {"min": 45.0, "median": 50.0, "max": 100.0, "samples": [45.0, 50.0, 100.0]}
        assert cpu["ratios"][KVEIL] == 1.6
        assert results.ways() == [DIRECT, FORWARDER, KVEIL, "an <odd> & other"]

    def test_a_ratio_is_of_one_round(self):
        """A slow round slows both ways: the ratio of the medians would be 3, of two rounds that had nothing to do
        with each other.
        """
        found = Results()
        for direct, kveil in ((1.0, 2.0), (10.0, 20.0), (2.0, 4.0), (1.0, 6.0), (3.0, 6.0)):
            found.add("c", "o", "m", DIRECT, direct)
            found.add("c", "o", "m", KVEIL, kveil)
        assert found.ratio(("c", "o", "m"), KVEIL, DIRECT) == 2.0
        assert found.ratio(("c", "o", "m"), KVEIL, FORWARDER) is None

    @pytest.mark.parametrize(
        ("value", "text"), [(0.512, "0.51"), (12.34, "12.3"), (123.4, "123"), (-0.25, "-0.25"), (5000, "5,000")]
    )
    def test_numbers(self, value, text):
        assert number(value) == text


class TestGoals:
    def verdict(self, found, **goal):
        return Verdict(goal=Goal(row="r", case="c", operation="o", metric="m", **goal), found=found)

    def test_at_most(self):
        assert self.verdict(2.0, limit=2.0).words == "met"
        assert self.verdict(2.5, limit=2.0).words == "MISSED by 25%"
        assert self.verdict(2.001, limit=2.0).words == "MISSED by less than 1%"
        assert not self.verdict(None, limit=2.0).is_met
        assert self.verdict(None, limit=2.0).words == "not measured"

    def test_at_least(self):
        assert self.verdict(400.0, limit=400, at_least=True).words == "met"
        assert self.verdict(300.0, limit=400, at_least=True).words == "MISSED by 25%"

    def test_over_another_way(self, results):
        found = {
            (goal.metric, goal.over): verdict
            for verdict in verdicts(results)
            if (goal := verdict.goal).key in results.samples
        }
        assert found[RATE, DIRECT].words == "MISSED by 47%"
        assert found[RATE, DIRECT].goal.bound == "at least 0.95 x direct"
        assert found[CPU, FORWARDER].is_met
        assert found[CPU, FORWARDER].shown == "1.60 x"
        assert found[CPU, ""].words == "MISSED by 7%"

    def test_are_of_cells_that_are_measured(self):
        """Of cases there are; of which cells, the run and the growth say."""
        assert {goal.case for goal in GOALS} <= {case.name for case in CASES}
        assert len({goal.row for goal in GOALS}) == len(GOALS)

    def test_a_cell_can_have_several(self):
        assert len(goals_of(("1KiB-none-plain", "produce", CPU))) == 2


class TestThePicture:
    def test_is_well_formed(self, results):
        root = ElementTree.fromstring(picture(results))
        texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
        assert {KVEIL, FORWARDER, "an <odd> & other", "1KiB-none-plain, produce", "1.60"} <= set(texts)
        bars = [float(each.get("width")) for each in root.iter("{http://www.w3.org/2000/svg}rect") if each.get("y")]
        assert max(bars) == pytest.approx(500)

    def test_of_nothing_is_one_too(self):
        assert ElementTree.fromstring(picture(Results())).tag.endswith("svg")


class TestTheDocs:
    def test_name_every_goal(self):
        text = DOCS.read_text()
        generated = text[text.index(BEGIN) : text.index(END)]
        for goal in GOALS:
            assert f"| {goal.row} | {goal.bound} |" in generated

    def test_are_renewed_between_the_marks(self, results, tmp_path):
        page = tmp_path / PAGE
        page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
        write_docs(tmp_path, results, ABOUT)
        text = page.read_text()
        assert text.startswith(f"before\n{BEGIN}\n")
        assert text.endswith(f"{END}\nafter\n")
        assert "old" not in text
        assert "Python 3.13, 2 cores, 8 GB of memory, load before the run 0.5, 0.4, 0.3" in text
        assert "a third of the usual load, 1 round of each case, 1 minutes" in text
        write_docs(tmp_path, results, ABOUT)
        assert page.read_text() == text

    def test_keep_what_was_not_run_again(self, results, tmp_path):
        (tmp_path / PAGE).write_text(f"{BEGIN}\n{END}\n")
        results.add("latency-200", "acknowledge", ACK, KVEIL, 1.0)
        write_docs(tmp_path, results, ABOUT)
        before = json.loads((tmp_path / SAMPLES).read_text())["results"]
        again = Results()
        again.add("latency-200", "acknowledge", ACK, KVEIL, 77.0)
        for _ in range(2):
            write_docs(tmp_path, again, {**ABOUT, "python": "3.14"}, cases=["latency-200"])
        *kept, renewed = json.loads((tmp_path / SAMPLES).read_text())["results"]
        assert kept == before[:-1]
        assert renewed["ways"][KVEIL]["samples"] == [77.0]
        text = (tmp_path / PAGE).read_text()
        assert text.count("In a run of their own: latency-200. Python 3.14") == 1
        assert "Python 3.13, 2 cores" in text

    def test_have_their_picture_and_samples(self):
        ElementTree.fromstring((DOCS.parent / "performance.svg").read_text())
        assert json.loads((DOCS.parent / "performance.json").read_text())["goals"]

    def test_the_samples_have_verdicts(self, results):
        goals = json.loads(as_json(results, ABOUT))["goals"]
        assert [goal["what"] for goal in goals] == [goal.row for goal in GOALS]
        assert {"at_least": 0.95, "met": False}.items() <= next(
            goal for goal in goals if goal["what"] == "throughput, 1 KiB, produce"
        ).items()
