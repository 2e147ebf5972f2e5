"""What a process counts, and the sum over several processes.

Counting is cheap: plain numbers, added to where things happen. Names are Prometheus' way: base units, `_total` for what
only grows, labels as in its text format. Samples are flat, `{'kveil_requests_total{api="Produce"}': 12}`, so that they
can be sent and summed as they are.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from kveil.protocol.kafka.api_table import API_TABLE
from kveil.protocol.kafka.primitives import Buffer
from kveil.proxy.errors import ErrorCode

Samples = Mapping[str, int]

CONNECTIONS_OPEN: Final = "kveil_connections_open"
"""The only one that may fall."""


@dataclass(slots=True, kw_only=True)
class Metrics:
    """The counters of one process."""

    connections: int = 0
    """Clients that were let in, ever."""
    connections_open: int = 0
    requests: Counter[int] = field(default_factory=Counter)
    """By API key."""
    sealed_batches: int = 0
    sealed_records: int = 0
    sealed_bytes: int = 0
    """Of plaintext, as it was produced: batches with their headers."""
    opened_batches: int = 0
    opened_records: int = 0
    opened_bytes: int = 0
    """Of plaintext, as it is delivered: batches with their headers."""
    refusals: Counter[ErrorCode] = field(default_factory=Counter)
    """Partitions that the proxy refused, by the error that the client was told."""

    key_calls: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """Calls to key services, further tries included, by service, operation (wrap, unwrap) and outcome (ok, refused,
    denied, unavailable)."""

    def count_sealed(self, records: int, nbytes: int) -> None:
        """Count one batch."""
        self.sealed_batches += 1
        self.sealed_records += records
        self.sealed_bytes += nbytes

    def count_opened(self, records: int, pieces: Iterable[Buffer]) -> None:
        """Count one batch, which is delivered as these pieces."""
        self.opened_batches += 1
        self.opened_records += records
        for piece in pieces:
            self.opened_bytes += len(piece)

    def samples(self) -> dict[str, int]:
        """Return every counter by its name."""
        return {
            CONNECTIONS_OPEN: self.connections_open,
            "kveil_connections_total": self.connections,
            **{f'kveil_requests_total{{api="{API_TABLE[key].name}"}}': n for key, n in sorted(self.requests.items())},
            "kveil_sealed_batches_total": self.sealed_batches,
            "kveil_sealed_records_total": self.sealed_records,
            "kveil_sealed_bytes_total": self.sealed_bytes,
            "kveil_opened_batches_total": self.opened_batches,
            "kveil_opened_records_total": self.opened_records,
            "kveil_opened_bytes_total": self.opened_bytes,
            **{f'kveil_refusals_total{{error="{code.name}"}}': n for code, n in sorted(self.refusals.items())},
            **{
                f'kveil_key_calls_total{{service="{service}",operation="{operation}",outcome="{outcome}"}}': n
                for (service, operation, outcome), n in sorted(self.key_calls.items())
            },
        }


class MetricsSum:
    """The samples of several processes in one. What a process counted stays when it is gone: sums don't fall."""

    def __init__(self) -> None:
        self._gone: Counter[str] = Counter()
        self._latest: dict[int, Samples] = {}

    def update(self, process: int, samples: Samples) -> None:
        """Take the latest samples of a process, which are over all its life."""
        self._latest[process] = samples

    def retire(self, process: int) -> None:
        """Keep the counts of a process that is gone."""
        self._gone.update(self._latest.pop(process, {}))
        self._gone.pop(CONNECTIONS_OPEN, None)

    def samples(self) -> dict[str, int]:
        """Return the sums."""
        total = Counter({CONNECTIONS_OPEN: 0})
        for samples in (self._gone, *self._latest.values()):
            total.update(samples)
        return dict(sorted(total.items()))
