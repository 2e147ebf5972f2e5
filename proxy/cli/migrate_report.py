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
        self.at_first = 0
        self.end = 0
        self.position = 0
        self._started = time.monotonic()

    def began(self, states: "Mapping[int, PartitionState]", ends: Mapping[int, int]) -> None:
        self.at_first = self.at_first or sum(state.records for state in states.values())
        self.position, self.end = _position(states), sum(ends.values())

    def copied(self, states: "Mapping[int, PartitionState]", stored_bytes: int) -> None:
        self.records = sum(state.records for state in states.values()) - self.at_first
        self.bytes += stored_bytes
        self.position = _position(states)

    @property
    def seconds(self) -> float:
        return max(time.monotonic() - self._started, 1e-6)

    @property
    def rate(self) -> str:
        return f"{self.records} records, {self.bytes / _MB / self.seconds:.1f} MB/s"


class Lines:
    """A line every second or so."""

    def __init__(self) -> None:
        self._pace = Pace()
        self._told = 0.0

    def began(self, states: "Mapping[int, PartitionState]", ends: Mapping[int, int]) -> None:
        self._pace.began(states, ends)
        self._say(f"copying: offsets {self._pace.position} to {self._pace.end} of {len(states)} partitions")

    def copied(self, states: "Mapping[int, PartitionState]", stored_bytes: int) -> None:
        pace = self._pace
        begun = pace.position
        pace.copied(states, stored_bytes)
        if time.monotonic() - self._told < LINE_SECONDS:
            return
        self._told = time.monotonic()
        left = max(0, pace.end - pace.position)
        speed = max(1, pace.position - begun) if not pace.records else pace.records / pace.seconds
        self._say(f"copied: {pace.rate}, about {left / speed:.0f} s left" if left else f"copied: {pace.rate}")

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
        self._progress.console.print(f"goes on from what is committed: {reason}", markup=False)

    def comparing(self, partitions: int) -> None:
        self._task = self._progress.add_task("comparing", total=partitions, rate="")

    def compared(self, found: "Comparison") -> None:  # noqa: ARG002 - the outcome tells
        if self._task is not None:
            self._progress.advance(self._task)


def _position(states: "Mapping[int, PartitionState]") -> int:
    return sum(state.position for state in states.values())


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
        moves = ", ".join(f"{at}: {one} -> {other}" for at, (one, other) in group.offsets.items())
        yield f"group {group.group}: {'left alone, ' + group.refused if group.refused else 'moved, ' + moves}"
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
