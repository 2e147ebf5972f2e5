"""All processes of one Kveil, for those who ask: their metrics together, what each tells, and the last minutes.

Held by the only process, or by the parent of several, which hears once a second what they tell.
"""

import time
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

from kveil.proxy.admin.metrics import BOUNDS, MetricsSum, Samples, sample_name

Status = Mapping[str, Any]
"""What a process tells (`status`): as JSON."""

POINT_SECONDS: Final = 2.0
POINTS: Final = 151
"""Five minutes, and where they began."""

CHARTED: Final = (
    "kveil_sealed_bytes_total",
    "kveil_opened_bytes_total",
    "kveil_sealed_records_total",
    "kveil_opened_records_total",
    *(
        sample_name("kveil_added_seconds_bucket", work=work, le=bound)
        for work in ("seal", "open")
        for bound in (*map(str, BOUNDS), "+Inf")
    ),
)
"""What a point in time keeps, in this order."""


class Overview:
    """What is known of all processes."""

    def __init__(self, *, keeps_history: bool) -> None:
        self._metrics = MetricsSum()
        self._statuses: dict[int, Status] = {}
        self._keeps_history = keeps_history
        self._points: deque[tuple[float, list[float]]] = deque(maxlen=POINTS)

    def update(self, process: int, samples: Samples, status: Status | None) -> None:
        """Take what a process tells now."""
        self._metrics.update(process, samples)
        if status is not None:
            self._statuses[process] = status
        now = time.time()
        if self._keeps_history and (not self._points or now - self._points[-1][0] >= POINT_SECONDS):
            self._points.append((now, self._metrics.totals(CHARTED)))

    def retire(self, process: int) -> None:
        """Keep the counts of a process that is gone."""
        self._metrics.retire(process)
        self._statuses.pop(process, None)

    def samples(self) -> dict[str, float]:
        """Return the metrics of all together."""
        return self._metrics.samples()

    def look(self) -> dict[str, Any]:
        """Return all of it, as JSON can hold it."""
        return {"samples": self.samples(), "statuses": list(self._statuses.values()), "points": list(self._points)}
