"""What is measured, how much of it, and what it should come to."""

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass, replace

MB = 1_000_000

CPU = "CPU-s/GB"
CPU_REQUEST = "CPU us"
RATE = "MB/s"
STORED = "stored/payload"
ACK = "ack ms"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One kind of load."""

    name: str
    kind: str = "throughput"
    """throughput, latency, or start."""
    client: str = "librdkafka"
    record_bytes: int = 1024
    codec: str = "none"
    tls: bool = False
    payload_bytes: int = 200 * MB
    messages_per_second: int = 0
    seconds: float = 0.0
    in_quick: bool = False

    @property
    def records(self) -> int:
        """How many records make up the payload."""
        return max(self.payload_bytes // self.record_bytes, 1)


# Enough of each for a second or more: small records cost the client's CPU first.
_SIZES = {"100B": (100, 60 * MB), "1KiB": (1024, 200 * MB), "10KiB": (10_240, 400 * MB)}
_QUICK = {"100B-none-plain", "1KiB-none-plain", "1KiB-lz4-plain", "1KiB-none-tls"}

CASES = (
    *(
        Case(
            name=(name := f"{size}-{codec}-{'tls' if tls else 'plain'}"),
            record_bytes=record_bytes,
            payload_bytes=payload_bytes,
            codec=codec,
            tls=tls,
            in_quick=name in _QUICK,
        )
        for tls in (False, True)
        for size, (record_bytes, payload_bytes) in _SIZES.items()
        for codec in ("none", "lz4")
    ),
    *(
        Case(name=f"java-1KiB-none-{'tls' if tls else 'plain'}", client="java", tls=tls, payload_bytes=400 * MB)
        for tls in (False, True)
    ),
    Case(name="latency-200", kind="latency", messages_per_second=200, seconds=8, in_quick=True),
    Case(name="start", kind="start", in_quick=True),
)

QUICK_FRACTION = 3

# (case, operation, metric, way) and the most that issue 3 allows, for Kveil's median.
GOALS = {
    ("1KiB-none-plain", "produce", CPU): 3.0,
    ("1KiB-none-plain", "consume", CPU): 3.0,
    ("latency-200", "added p50", ACK): 0.5,
    ("start", "idle memory", "MB"): 90.0,
    ("start", "first Metadata", "s"): 1.0,
}


def select(patterns: Sequence[str], *, quick: bool) -> list[Case]:
    """The cases whose names match, smaller ones for a quick run."""
    chosen = [case for case in CASES if case.in_quick or not quick]
    if patterns:
        chosen = [case for case in CASES if any(fnmatch.fnmatch(case.name, pattern) for pattern in patterns)]
    return [smaller(case, QUICK_FRACTION) for case in chosen] if quick else chosen


def smaller(case: Case, fraction: float) -> Case:
    """The same case with less load."""
    return replace(case, payload_bytes=int(case.payload_bytes / fraction), seconds=case.seconds / 2)
