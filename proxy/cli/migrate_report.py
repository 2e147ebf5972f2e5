"""What `kveil migrate` says: while it works on standard error, and at the end."""

import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import typer

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from kveil.proxy.migrate.comparing import Comparison
    from kveil.proxy.migrate.groups import MovedGroup
    from kveil.proxy.migrate.running import Order, Outcome, Plan, Teller
    from kveil.proxy.migrate.state import PartitionState
    from kveil.proxy.policy import Policy

LINE_SECONDS: Final = 1.0
_MB: Final = 1_000_000


@contextmanager
def telling() -> "Iterator[Teller]":
    """Yield who is told: a bar on a terminal, lines elsewhere."""
    if not sys.stderr.isatty():
        yield Lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield Bar(progress)


class Pace:
    """How fast it goes."""

    def __init__(self) -> None:
        self.records = 0
        """Copied by this run."""
        self.bytes = 0
        self.end = 0
        self.position = 0
        self._records_before: int | None = None
        self._position_before = 0
        self._started = time.monotonic()

    def began(self, states: "Mapping[int, PartitionState]", ends: Mapping[int, int]) -> None:
        self.position, self.end = _position(states), sum(ends.values())
        if self._records_before is None:
            self._records_before, self._position_before = _records(states), self.position

    def copied(self, states: "Mapping[int, PartitionState]", stored_bytes: int) -> None:
        self.records = _records(states) - (self._records_before or 0)
        self.bytes += stored_bytes
        self.position = _position(states)

    @property
    def rate(self) -> str:
        return f"{self.records} records, {self.bytes / _MB / self._seconds:.1f} MB/s"

    @property
    def seconds_left(self) -> float:
        offsets = self.position - self._position_before
        return max(0, self.end - self.position) * self._seconds / max(1, offsets)

    @property
    def _seconds(self) -> float:
        return max(time.monotonic() - self._started, 1e-6)


class Lines:
    """A line every second or so."""

    def __init__(self) -> None:
        self._pace = Pace()
        self._told = 0.0

    def began(self, states: "Mapping[int, PartitionState]", ends: Mapping[int, int]) -> None:
        self._pace.began(states, ends)
        self._say(f"copying: offsets {self._pace.position} to {self._pace.end} of {len(states)} partitions")

    def copied(self, states: "Mapping[int, PartitionState]", stored_bytes: int) -> None:
        self._pace.copied(states, stored_bytes)
        if time.monotonic() - self._told >= LINE_SECONDS:
            self._told = time.monotonic()
            self._say(f"copied: {self._pace.rate}, about {self._pace.seconds_left:.0f} s left")

    def troubled(self, reason: str) -> None:
        self._say(f"goes on from what is committed: {reason}")

    def comparing(self, partitions: int) -> None:
        self._say(f"copied: {self._pace.rate}; comparing {partitions} partitions")

    def compared(self, found: "Comparison") -> None:
        self._say(f"compared: partition {found.partition}, {found.records} records")

    def _say(self, text: str) -> None:
        print(f"kveil: {text}", file=sys.stderr, flush=True)  # noqa: T201 - the program's own output


class Bar:
    """A bar for the copy, and one for the comparison."""

    def __init__(self, progress: "Progress") -> None:
        self._progress = progress
        self._pace = Pace()
        self._task: TaskID | None = None

    def began(self, states: "Mapping[int, PartitionState]", ends: Mapping[int, int]) -> None:
        self._pace.began(states, ends)
        if self._task is None:
            self._task = self._progress.add_task("copying", total=self._pace.end, rate="")
        self._progress.update(self._task, completed=self._pace.position)

    def copied(self, states: "Mapping[int, PartitionState]", stored_bytes: int) -> None:
        self._pace.copied(states, stored_bytes)
        if self._task is not None:
            self._progress.update(self._task, completed=self._pace.position, rate=self._pace.rate)

    def troubled(self, reason: str) -> None:
        self._progress.console.print(f"goes on from what is committed: {reason}", markup=False, highlight=False)

    def comparing(self, partitions: int) -> None:
        self._task = self._progress.add_task("comparing", total=partitions, rate="")

    def compared(self, found: "Comparison") -> None:  # noqa: ARG002 - the outcome tells
        if self._task is not None:
            self._progress.advance(self._task)


def _position(states: "Mapping[int, PartitionState]") -> int:
    return sum(state.position for state in states.values())


def _records(states: "Mapping[int, PartitionState]") -> int:
    return sum(state.records for state in states.values())


# Before and after ----------------------------------------------------------------------------------------------------


def describe(policy: "Policy", order: "Order", plan: "Plan", left: int, size: int | None) -> dict[str, Any]:
    """What would be done, by names for people and machines. `left` counts offsets, `size` bytes."""
    dest = "is there" if plan.dest else "would be made with " + ", ".join(f"{k}={v}" for k, v in plan.settings.items())
    return {
        "source": f"{order.source}, {_rule(policy, order.source, None)}",
        "dest": f"{order.dest}, {_rule(policy, order.dest, plan.mode)}",
        "destination": f"{dest}, {len(plan.source.leaders)} partitions",
        "records": f"at most {left} to copy" + ("" if plan.states is None else ", the copy has begun"),
        "bytes": "unknown: DESCRIBE on the cluster is denied" if size is None else f"{size} stored in {order.source}",
        "keys": "can be used",
    }


def describe_groups(order: "Order", plan: "Plan", groups: "list[MovedGroup]") -> dict[str, str]:
    """What would become of consumer groups, by what is copied now."""
    if order.groups and plan.states is None:
        return {"groups": "their offsets can be told once the copy has begun"}
    return {f"group {each.group}": _move(each, "would be moved") for each in groups}


def _move(group: "MovedGroup", done: str) -> str:
    moves = ", ".join(f"{at}: {one} -> {other}" for at, (one, other) in group.offsets.items())
    return f"left alone, {group.refused}" if group.refused else f"{done}, {moves}"


def _rule(policy: "Policy", topic: str, mode: object) -> str:
    rule = policy.rule_for(topic)
    if not rule.seal:
        return f"PLAIN ({policy.matched_by(topic)})"
    shown = f" in mode {mode}" if mode else ""
    return f"sealed under {rule.key}{shown} ({policy.matched_by(topic)})"


def tell(order: "Order", outcome: "Outcome", *, as_json: bool) -> None:
    """Say what was done."""
    if as_json:
        found = asdict(outcome) | {"good": outcome.is_good}
        for each in found["compared"]:
            del each["runs"]
        typer.echo(json.dumps(found, indent=2))
    elif outcome.stopped:
        typer.echo("Stopped before the end. What is copied stays: the same command goes on from there.")
    else:
        typer.echo("\n".join(_lines(order, outcome)))


def _lines(order: "Order", outcome: "Outcome") -> Iterator[str]:
    for each in outcome.compared:
        yield _verdict(each)
        if each.gone:
            yield f"partition {each.partition}: {each.gone} records at the beginning are gone meanwhile, not compared"
        if each.later:
            yield f"partition {each.partition}: {each.later} further records of {order.dest} are others'"
    for group in outcome.groups:
        yield f"group {group.group}: {_move(group, 'moved')}"
    if order.groups and not outcome.groups and any(not each.is_same for each in outcome.compared):
        yield "No group was moved: the topics differ."
    behind = f"{order.source} has got {outcome.behind} more meanwhile" if outcome.behind else "nothing is left to copy"
    yield f"Copied {order.source} to {order.dest}; {behind}."


def _verdict(one: "Comparison") -> str:
    if one.is_same:
        return f"partition {one.partition}: the same {one.records} records, SHA-256 {one.digest}"
    return (
        f"partition {one.partition}: DIFFERENT: {one.difference}; {one.records} records, SHA-256 {one.digest}, became "
        f"{one.dest_records}, SHA-256 {one.dest_digest}"
    )
