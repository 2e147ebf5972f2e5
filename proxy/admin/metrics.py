"""What a process counts, and the sum over several processes.

Counting is cheap: plain numbers, added to where things happen. A request pays for one of them, a batch for a look-up of
its topic and three, a frame with records for two looks at the clock and one step of a histogram. Names and labels come
in when somebody asks.

Samples are flat, `{'kveil_requests_total{api="Produce"}': 12}`, so that they can be sent and summed as they are;
`catalogue` says what each is, and `exposition` writes them as Prometheus reads them.
"""

import time
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final, NamedTuple

from kveil.protocol.kafka.api_table import API_TABLE
from kveil.protocol.kafka.primitives import Buffer
from kveil.proxy.admin.catalogue import Kind, family_of
from kveil.proxy.errors import ErrorCode

Samples = Mapping[str, float]

CONNECTIONS_OPEN: Final = "kveil_connections_open"

MAX_TOPICS: Final = 200
"""Topics that are counted by themselves, the first that were met: clients and brokers name any number of them, and each
is six series for whoever stores them."""
OTHER_TOPICS: Final = "(other)"
"""What the rest is counted under. No topic can have this name."""
RECENT_REFUSALS: Final = 20

BOUNDS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds: from a small batch's sealing to a key service that is tried three times."""


class Histogram:
    """How often something took how long."""

    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0

    def observe(self, seconds: float) -> None:
        """Count one more."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds

    def samples(self, name: str, **labels: str) -> dict[str, float]:
        """Return its samples. Each bucket has those below it in it."""
        bounds = [*map(str, BOUNDS), "+Inf"]
        found: dict[str, float] = {
            sample_name(f"{name}_bucket", **labels, le=bound): count
            for bound, count in zip(bounds, accumulate(self.counts), strict=True)
        }
        found[sample_name(f"{name}_count", **labels)] = sum(self.counts)
        found[sample_name(f"{name}_sum", **labels)] = self.seconds
        return found


@dataclass(slots=True)
class TopicCounts:
    """What was done to one topic's batches. Bytes are of plaintext, batches with their headers."""

    sealed_batches: int = 0
    sealed_records: int = 0
    sealed_bytes: int = 0
    opened_batches: int = 0
    opened_records: int = 0
    opened_bytes: int = 0


_COUNTED: Final = tuple(f"{work}_{what}" for work in ("sealed", "opened") for what in ("batches", "records", "bytes"))


class Refusal(NamedTuple):
    """One partition that the proxy refused. `at` is Unix time in seconds."""

    at: float
    topic: str | None
    partition: int
    error: str
    reason: str


@dataclass(slots=True)
class Reloads:
    """Since when the configuration is in force, and whether a later one was refused."""

    succeeded_at: float = field(default_factory=time.time)
    """Unix time; at first that of the start."""
    is_failed: bool = False

    def succeeded(self) -> None:
        """Another configuration is in force, or the same with its files read again."""
        self.succeeded_at, self.is_failed = time.time(), False

    def samples(self) -> dict[str, float]:
        """Return its samples."""
        return {
            "kveil_config_loaded_timestamp_seconds": self.succeeded_at,
            "kveil_config_reload_failed": int(self.is_failed),
        }


@dataclass(slots=True, kw_only=True)
class Metrics:
    """The counters of one process."""

    connections: int = 0
    """Clients that were let in, ever."""
    connections_open: int = 0
    requests: Counter[int] = field(default_factory=Counter)
    """By API key."""
    topics: dict[str, TopicCounts] = field(default_factory=dict)
    seal_seconds: Histogram = field(default_factory=Histogram)
    open_seconds: Histogram = field(default_factory=Histogram)
    refusals: Counter[ErrorCode] = field(default_factory=Counter)
    """Partitions that the proxy refused, by the error that the client was told."""
    reloads: Reloads = field(default_factory=Reloads)
    recent_refusals: deque[Refusal] = field(default_factory=lambda: deque(maxlen=RECENT_REFUSALS))

    key_calls: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """Calls to key services, further tries included, by service, operation (wrap, unwrap) and outcome (ok, refused,
    denied, unavailable)."""
    key_seconds: dict[tuple[str, str], Histogram] = field(default_factory=dict)
    """By service and operation."""

    def count_sealed(self, topic: str, records: int, nbytes: int) -> None:
        """Count one batch."""
        counts = self.topics.get(topic) or self._more_of(topic)
        counts.sealed_batches += 1
        counts.sealed_records += records
        counts.sealed_bytes += nbytes

    def count_opened(self, topic: str, records: int, pieces: Iterable[Buffer]) -> None:
        """Count one batch, which is delivered as these pieces."""
        counts = self.topics.get(topic) or self._more_of(topic)
        counts.opened_batches += 1
        counts.opened_records += records
        for piece in pieces:
            counts.opened_bytes += len(piece)

    def _more_of(self, topic: str) -> TopicCounts:
        name = topic if len(self.topics) < MAX_TOPICS else OTHER_TOPICS
        return self.topics.setdefault(name, TopicCounts())

    def refused(self, code: ErrorCode, refusal: Refusal) -> None:
        """Count one partition that was refused."""
        self.refusals[code] += 1
        self.recent_refusals.append(refusal)

    @contextmanager
    def key_call(self, service: str, operation: str) -> Iterator[None]:
        """Take the time of one try of a call."""
        began = time.monotonic()
        try:
            yield
        finally:
            taken = self.key_seconds.setdefault((service, operation), Histogram())
            taken.observe(time.monotonic() - began)

    def samples(self) -> dict[str, float]:
        """Return every counter by its name."""
        found: dict[str, float] = {
            CONNECTIONS_OPEN: self.connections_open,
            "kveil_connections_total": self.connections,
        }
        for key, count in sorted(self.requests.items()):
            found[sample_name("kveil_requests_total", api=API_TABLE[key].name)] = count
        for what in _COUNTED:
            found[f"kveil_{what}_total"] = sum(getattr(counts, what) for counts in self.topics.values())
            for topic, counts in self.topics.items():
                found[sample_name(f"kveil_topic_{what}_total", topic=topic)] = getattr(counts, what)
        for code, count in sorted(self.refusals.items()):
            found[sample_name("kveil_refusals_total", error=code.name)] = count
        found |= self.seal_seconds.samples("kveil_added_seconds", work="seal")
        found |= self.open_seconds.samples("kveil_added_seconds", work="open")
        for (service, operation, outcome), count in sorted(self.key_calls.items()):
            name = sample_name("kveil_key_calls_total", service=service, operation=operation, outcome=outcome)
            found[name] = count
        for (service, operation), taken in sorted(self.key_seconds.items()):
            found |= taken.samples("kveil_key_call_seconds", service=service, operation=operation)
        return found


class MetricsSum:
    """The samples of several processes in one. What a process counted stays when it is gone: counts don't fall."""

    def __init__(self) -> None:
        self._gone: dict[str, float] = {}
        self._latest: dict[int, Samples] = {}

    def update(self, process: int, samples: Samples) -> None:
        """Take the latest samples of a process, which are over all its life."""
        self._latest[process] = samples

    def retire(self, process: int) -> None:
        """Keep the counts of a process that is gone."""
        for name, value in self._latest.pop(process, {}).items():
            if family_of(name).kind is not Kind.GAUGE:
                self._gone[name] = self._gone.get(name, 0) + value

    def totals(self, names: Sequence[str]) -> list[float]:
        """Return the sums of these counters, 0 for those that nobody has."""
        several = [self._gone, *self._latest.values()]
        return [sum(samples.get(name, 0) for samples in several) for name in names]

    def samples(self) -> dict[str, float]:
        """Return what all have counted together, and of gauges what `catalogue` says."""
        values: dict[str, list[float]] = {CONNECTIONS_OPEN: [0]}
        for samples in (self._gone, *self._latest.values()):
            for name, value in samples.items():
                values.setdefault(name, []).append(value)
        return {name: family_of(name).combine(several) for name, several in sorted(values.items())}


def for_log(samples: Samples) -> dict[str, float]:
    """Return what goes into one line of the log: neither buckets nor single topics."""
    return {name: value for name, value in samples.items() if "_bucket{" not in name and "{topic=" not in name}


def sample_name(name: str, **labels: str) -> str:
    """Return a sample's name with its labels, as Prometheus' text format has it."""
    written = ",".join(f'{key}="{_escaped(value)}"' for key, value in labels.items())
    return f"{name}{{{written}}}" if labels else name


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
