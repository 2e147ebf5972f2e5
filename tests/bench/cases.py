"""What is measured, and how much of it."""

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass, replace

MB = 1_000_000

CPU = "CPU-s/GB"
CPU_REQUEST = "CPU us"
RATE = "MB/s"
STORED = "stored/payload"
ACK = "ack ms"
END_TO_END = "end-to-end ms"
MEMORY = "MB"
EACH_PARTITION = "us/partition"
TIMES = "times"
MILLISECONDS = "ms"

KEYS = 10_000
"""How many customers the keyed records are of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One kind of load."""

    name: str
    kind: str = "throughput"
    """One of __main__.ROUND_OF."""
    rounds: int = 5
    """Fewer where no goal depends on it."""
    client: str = "librdkafka"
    record_bytes: int = 1024
    codec: str = "none"
    keys: int = 0
    """Of how many keys each record has one; 0 for records without keys."""
    tls: bool = False
    payload_bytes: int = 200 * MB
    messages_per_second: int = 0
    seconds: float = 0.0
    """By each way."""
    connections: int = 0
    count: int = 0
    """Of what is done again and again: keys to open, readers to revoke."""
    in_quick: bool = False

    @property
    def records(self) -> int:
        """How many records make up the payload."""
        return max(self.payload_bytes // self.record_bytes, 1)

    @property
    def topic_stem(self) -> str:
        """What the names of its topics begin with. The rule of record mode goes by it."""
        return f"bench-{self.name}"


RECORD_MODE_TOPICS = "bench-record-*"

# Enough of each for a second or more: small records cost the client's CPU first.
_SIZES = {"100B": (100, 80 * MB), "1KiB": (1024, 300 * MB), "10KiB": (10_240, 500 * MB)}
_WITH_GOALS = {"100B-none-plain", "1KiB-none-plain", "10KiB-none-plain", "1KiB-lz4-plain", "1KiB-none-tls"}
_FEW = 2


def _batch_mode(size: str, codec: str, *, tls: bool) -> Case:
    name = f"{size}-{codec}-{'tls' if tls else 'plain'}"
    record_bytes, payload_bytes = _SIZES[size]
    has_goal = name in _WITH_GOALS
    return Case(
        name=name,
        rounds=5 if has_goal else _FEW,
        record_bytes=record_bytes,
        payload_bytes=payload_bytes,
        codec=codec,
        tls=tls,
        in_quick=has_goal,
    )


CASES = (
    *(_batch_mode(size, codec, tls=tls) for tls in (False, True) for size in _SIZES for codec in ("none", "lz4")),
    Case(name="record-100B", record_bytes=100, payload_bytes=30 * MB, keys=KEYS, in_quick=True),
    Case(name="record-1KiB", payload_bytes=150 * MB, keys=KEYS, in_quick=True),
    *(
        Case(
            name=f"java-1KiB-none-{'tls' if tls else 'plain'}",
            client="java",
            rounds=_FEW,
            tls=tls,
            payload_bytes=400 * MB,
        )
        for tls in (False, True)
    ),
    *(
        Case(name=f"latency-{pace}", kind="latency", rounds=4, messages_per_second=pace, seconds=seconds, in_quick=True)
        for pace, seconds in ((200, 5), (1_000, 3), (2_000, 3))
    ),
    Case(name="end-to-end-200", kind="end-to-end", rounds=_FEW, messages_per_second=200, seconds=5, in_quick=True),
    Case(name="alone-1KiB", kind="alone", payload_bytes=1_200 * MB, in_quick=True),
    Case(name="memory-load", kind="memory", rounds=_FEW, payload_bytes=600 * MB, in_quick=True),
    Case(name="memory-connections", kind="connections", rounds=_FEW, connections=5_000, in_quick=True),
    Case(name="start", kind="start", in_quick=True),
    Case(name="workers-2", kind="workers", payload_bytes=400 * MB, in_quick=True),
    Case(name="growth", kind="growth", rounds=1, in_quick=True),
    Case(name="identities-100B", kind="identities", rounds=3, record_bytes=100, payload_bytes=40 * MB, in_quick=True),
    Case(name="identities-1KiB", kind="identities", rounds=3, payload_bytes=150 * MB, in_quick=True),
    Case(name="identities-alone", kind="identity-costs", rounds=1, in_quick=True),
    Case(name="identities-enroll", kind="enroll", rounds=3, in_quick=True),
    Case(name="identities-1000-keys", kind="many-keys", rounds=_FEW, count=1_000, in_quick=True),
    Case(name="identities-revoke", kind="revocation", rounds=1, count=100, in_quick=True),
)

WARM_UP = Case(name="warm-up", payload_bytes=40 * MB)
"""Goes first through new processes, uncounted: Java compiles what it uses, and so does the proxy's walker."""

QUICK_FRACTION = 3


def select(patterns: Sequence[str], *, quick: bool) -> list[Case]:
    """The cases whose names match, smaller ones for a quick run."""
    chosen = [case for case in CASES if case.in_quick or not quick]
    if patterns:
        chosen = [case for case in CASES if any(fnmatch.fnmatch(case.name, pattern) for pattern in patterns)]
    return [smaller(case, QUICK_FRACTION) for case in chosen] if quick else chosen


def smaller(case: Case, fraction: float) -> Case:
    """The same case with less load. What has a number stays as many, unless it is but tried out."""
    divisor = 1 if fraction <= QUICK_FRACTION else fraction
    return replace(
        case,
        payload_bytes=int(case.payload_bytes / fraction),
        seconds=case.seconds / 2,
        connections=max(int(case.connections / divisor), 1) if case.connections else 0,
        count=max(int(case.count / divisor), 1) if case.count else 0,
    )
