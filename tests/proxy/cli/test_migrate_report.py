"""What `kveil migrate` says while it works, and at the end."""

import io
import json

import pytest
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from kveil.proxy.cli.migrate_report import Bar, Lines, Pace, describe_groups, tell
from kveil.proxy.migrate.comparing import Comparison, Run
from kveil.proxy.migrate.groups import MovedGroup
from kveil.proxy.migrate.running import Order, Outcome
from kveil.proxy.migrate.state import PartitionState

ORDER = Order(source="a", dest="b", groups=["g"])


def states(*positions: int) -> dict[int, PartitionState]:
    return {
        at: PartitionState(source_id="", dest_id="", start=0, first=0, position=each, records=each)
        for at, each in enumerate(positions)
    }


def test_the_pace_counts_this_run_alone():
    """What was copied before doesn't make it faster, and doesn't shorten what is left."""
    pace = Pace()
    pace.began(states(100, 0), {0: 200, 1: 100})
    pace.copied(states(150, 0), 1_000_000)
    assert pace.records == 50
    assert 0 < pace.seconds_left < 60
    pace.began(states(150, 0), {0: 200, 1: 100})  # anew, after a broker was lost
    pace.copied(states(200, 100), 1_000_000)
    assert (pace.records, pace.seconds_left) == (200, 0)
    assert pace.rate.startswith("200 records, ")


def test_lines(capsys):
    lines = Lines()
    lines.began(states(5, 0), {0: 10, 1: 10})
    lines.copied(states(7, 0), 100)
    lines.copied(states(8, 0), 100)  # a moment later: not told
    lines.troubled("a broker moved")
    lines.comparing(2)
    lines.compared(Comparison(partition=1, records=10))
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "kveil: copying: offsets 5 to 20 of 2 partitions"
    assert [line.split(":")[1] for line in said] == [
        " copying", " copied", " goes on from what is committed", " copied", " compared",
    ]  # fmt: skip
    assert "2 records, " in said[1]
    assert "MB/s, about" in said[1]
    assert "3 records" in said[3]


def test_a_bar():
    shown = io.StringIO()
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[rate]}"))
    with Progress(*columns, console=Console(file=shown, force_terminal=True, width=100)) as progress:
        bar = Bar(progress)
        bar.began(states(5), {0: 10})
        bar.troubled("[not markup]")
        bar.began(states(5), {0: 10})
        bar.copied(states(10), 100)
        bar.comparing(1)
        bar.compared(Comparison(partition=0))
        assert [(task.completed, task.total) for task in progress.tasks] == [(10, 10), (1, 1)]
    assert "[not markup]" in shown.getvalue()
    assert "5 records" in shown.getvalue()


SAME = Comparison(partition=0, records=3, digest="ab", runs=[Run(0, 0, 3)])
OTHER = Comparison(
    partition=1, records=2, digest="ab", dest_records=1, dest_digest="cd", difference="offset 1 is missing"
)
MOVED = MovedGroup(group="g", offsets={0: (8, 7)})
LEFT = MovedGroup(group="g", refused="it is active (Stable)")


@pytest.mark.parametrize(
    ("outcome", "good", "lines"),
    [
        (Outcome(compared=[SAME]), True, ["partition 0: the same 3 records", "nothing is left"]),
        (Outcome(compared=[SAME], behind=4), True, ["a has got 4 more meanwhile"]),
        (Outcome(compared=[SAME, OTHER]), False, ["DIFFERENT: offset 1 is missing; 2 records", "No group was moved"]),
        (Outcome(compared=[SAME], groups=[MOVED]), True, ["group g: moved, 0: 8 -> 7"]),
        (Outcome(compared=[SAME], groups=[LEFT]), False, ["group g: left alone, it is active"]),
        (Outcome(stopped=True), False, ["Stopped before the end"]),
    ],
)
def test_the_end(capsys, outcome, good, lines):
    assert outcome.is_good is good
    tell(ORDER, outcome, as_json=False)
    said = capsys.readouterr().out
    assert [line for line in lines if line not in said] == []


def test_the_end_for_machines(capsys):
    tell(ORDER, Outcome(compared=[OTHER], groups=[MOVED]), as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["good"] is False
    assert found["compared"][0]["difference"] == "offset 1 is missing"
    assert "runs" not in found["compared"][0]
    assert found["groups"] == [{"group": "g", "offsets": {"0": [8, 7]}, "refused": None}]


def test_groups_in_a_dry_run():
    plan = type("Begun", (), {"states": {}})()
    assert describe_groups(ORDER, plan, [MOVED]) == {"group g": "would be moved, 0: 8 -> 7"}
    plan.states = None
    assert "once the copy has begun" in describe_groups(ORDER, plan, [])["groups"]
