"""What the figures should come to, as data. All goals are for Kveil's median of one run."""

from collections.abc import Sequence
from dataclasses import dataclass

from tests.bench.cases import ACK, CPU, CPU_REQUEST, EACH_PARTITION, MEMORY, MILLISECONDS, RATE, STORED, TIMES
from tests.bench.results import Key, Results, number
from tests.bench.ways import DIRECT, FORWARDER, KVEIL


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """The most or the least that one cell should come to, by itself or over another way's."""

    row: str
    case: str
    operation: str
    metric: str
    limit: float
    at_least: bool = False
    over: str = ""
    """The way that the figure is divided by, round by round; empty for the figure itself."""

    @property
    def key(self) -> Key:
        """The cell."""
        return (self.case, self.operation, self.metric)

    @property
    def bound(self) -> str:
        """The goal in words."""
        words = "at least" if self.at_least else "at most"
        return f"{words} {number(self.limit)} x {self.over}" if self.over else f"{words} {number(self.limit)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a run says of a goal."""

    goal: Goal
    found: float | None
    """None if the run didn't measure it."""

    @property
    def is_met(self) -> bool:
        """Whether it was measured and is good enough."""
        if self.found is None:
            return False
        return self.found >= self.goal.limit if self.goal.at_least else self.found <= self.goal.limit

    @property
    def shown(self) -> str:
        """The figure."""
        if self.found is None:
            return ""
        return f"{number(self.found)} x" if self.goal.over else number(self.found)

    @property
    def words(self) -> str:
        """Met, or by how much it is missed."""
        if self.found is None:
            return "not measured"
        if self.is_met:
            return "met"
        missed = abs(self.found / self.goal.limit - 1)
        return f"MISSED by {missed:.0%}" if missed >= 0.01 else "MISSED by less than 1%"


def verdicts(results: Results, goals: Sequence[Goal] | None = None) -> list[Verdict]:
    """What the run says of each goal."""
    return [Verdict(goal=goal, found=_found(goal, results)) for goal in (GOALS if goals is None else goals)]


def _found(goal: Goal, results: Results) -> float | None:
    return results.ratio(goal.key, KVEIL, goal.over) if goal.over else results.median(goal.key, KVEIL)


def _both(row: str, case: str, produce: float, consume: float) -> list[Goal]:
    """CPU time of both directions."""
    limits = {"produce": produce, "consume": consume}
    return [
        Goal(row=f"{row}, {operation}", case=case, operation=operation, metric=CPU, limit=limit)
        for operation, limit in limits.items()
    ]


def _over_forwarder(row: str, case: str, limit: float) -> list[Goal]:
    return [
        Goal(row=f"{row}, {operation}", case=case, operation=operation, metric=CPU, limit=limit, over=FORWARDER)
        for operation in ("produce", "consume")
    ]


def _rates() -> list[Goal]:
    broker, alone = "throughput, 1 KiB", "throughput of one process against a sink, 1 KiB"
    over = {"produce": DIRECT, "consume": FORWARDER}
    return [
        *(
            Goal(
                row=f"{broker}, {operation}",
                case="1KiB-none-plain",
                operation=operation,
                metric=RATE,
                limit=0.95,
                at_least=True,
                over=way,
            )
            for operation, way in over.items()
        ),
        *(
            Goal(
                row=f"{alone}, {operation}, MB/s",
                case="alone-1KiB",
                operation=operation,
                metric=RATE,
                limit=400,
                at_least=True,
            )
            for operation in over
        ),
    ]


def _latency() -> list[Goal]:
    added = {200: 0.2, 1_000: 0.25, 2_000: 0.3}
    return [
        *(
            Goal(
                row=f"ack latency added at {pace:,} per s, p50, ms",
                case=f"latency-{pace}",
                operation="added p50",
                metric=ACK,
                limit=limit,
            )
            for pace, limit in added.items()
        ),
        *(
            Goal(
                row=f"CPU us per request of one record, at {pace:,} per s",
                case=f"latency-{pace}",
                operation="request",
                metric=CPU_REQUEST,
                limit=60,
            )
            for pace in added
        ),
    ]


def _stored() -> list[Goal]:
    limits = {
        "1 KiB": ("1KiB-none-plain", 1.01),
        "100 B": ("100B-none-plain", 1.03),
        "lz4 JSON": ("1KiB-lz4-plain", 1.04),
    }
    return [
        Goal(row=f"stored bytes, {what}", case=case, operation="stored", metric=STORED, limit=limit, over=DIRECT)
        for what, (case, limit) in limits.items()
    ]


def _process() -> list[Goal]:
    rows = (
        ("memory idle, MB", "start", "idle memory", MEMORY, 60),
        ("memory with 5,000 idle connections, MB", "memory-connections", "with connections", MEMORY, 300),
        ("memory under load, MB", "memory-load", "most memory", MEMORY, 250),
        ("start to first Metadata, s", "start", "first Metadata", "s", 0.5),
        ("two workers, CPU over one worker's, produce", "workers-2", "produce", TIMES, 1.15),
        ("two workers, CPU over one worker's, consume", "workers-2", "consume", TIMES, 1.15),
        ("two workers, share of the busier one, produce", "workers-2", "produce", "share", 0.6),
        ("two workers, share of the busier one, consume", "workers-2", "consume", "share", 0.6),
    )
    return [
        Goal(row=row, case=case, operation=operation, metric=metric, limit=limit)
        for row, case, operation, metric, limit in rows
    ]


# Linear: a partition of a thousand costs no more than one of a hundred does, which carries the fixed cost too.
_LINEAR = 1.2


def _growth() -> list[Goal]:
    sizes = {"Produce": 1_000, "Fetch": 1_000, "Metadata": 10_000}
    limits = {
        ("Produce", "plain"): 3.0,
        ("Produce", "sealed, without the sealing"): 3.0,
        ("Fetch", "plain"): 3.0,
        ("Fetch", "sealed, without the opening"): 3.0,
        ("Metadata", "10 partitions a topic"): 1.5,
    }
    goals = []
    for (api, how), limit in limits.items():
        most = sizes[api]
        goals.append(
            Goal(
                row=f"us a partition, {api} of {most:,}, {how}",
                case="growth",
                operation=f"{api}, {how}, {most:,}",
                metric=EACH_PARTITION,
                limit=limit,
            )
        )
        goals.append(
            Goal(
                row=f"linear: a partition of {most:,} over one of {most // 10:,}, {api}, {how}",
                case="growth",
                operation=f"{api}, {how}, {most:,} over {most // 10:,}",
                metric=TIMES,
                limit=_LINEAR,
            )
        )
    return goals


def _identities() -> list[Goal]:
    rows = (
        ("announcement to 100 recipients, kB", "identities-alone", "announced to 100", "kB", 130),
        ("announcement to 100 recipients, ms", "identities-alone", "announce to 100", MILLISECONDS, 50),
        ("enroll to first sealed record, s", "identities-enroll", "enroll to first sealed record", "s", 3),
        ("start of a reader of 1,000 keys, first record, s", "identities-1000-keys", "start to first record", "s", 2),
        ("revoked to last batch, p99, s", "identities-revoke", "revoked to last batch, p99", "s", 1),
    )
    return [
        Goal(row=row, case=case, operation=operation, metric=metric, limit=limit)
        for row, case, operation, metric, limit in rows
    ]


GOALS: tuple[Goal, ...] = (
    *_both("CPU-s/GB, 1 KiB", "1KiB-none-plain", 1.5, 1.3),
    *_over_forwarder("CPU over the forwarder's, 1 KiB", "1KiB-none-plain", 1.6),
    *_both("CPU-s/GB, 100 B", "100B-none-plain", 3.5, 2.0),
    *_both("CPU-s/GB, 10 KiB", "10KiB-none-plain", 1.4, 1.2),
    *_both("CPU-s/GB, 1 KiB JSON with lz4", "1KiB-lz4-plain", 0.55, 0.45),
    *_both("CPU-s/GB, 1 KiB, TLS upstream", "1KiB-none-tls", 2.3, 2.1),
    *_both("CPU-s/GB, record mode, 1 KiB", "record-1KiB", 5, 5),
    *_both("CPU-s/GB, record mode, 100 B", "record-100B", 25, 25),
    *_rates(),
    *_latency(),
    *_stored(),
    *_process(),
    *_growth(),
    *_identities(),
)
"""In the order in which they are printed."""


def goals_of(key: Key) -> list[Goal]:
    """The goals of one cell."""
    return [goal for goal in GOALS if goal.key == key]
