"""Counts what an authority or a keeper decides, as it goes into the audit."""

from collections import Counter
from collections.abc import Callable
from typing import Final

from kveil.proxy.admin.audit import TYPE_PREFIX, Event, log_event
from kveil.proxy.admin.metrics import sample_name

# Those with a reason get one when it first comes.
_WITHOUT_REASON: Final = (
    "authority.restored",
    "identity.granted",
    "identity.renewed",
    "identity.revoked",
    "key.regranted",
    "ticket.redeemed",
)
_REASON_OF: Final = {"identity.alarm": "kind", "ticket.refused": "reason"}


class IdentityEvents:
    """What was told since this process began."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self.hand_on: Callable[[Event], None] = log_event
        """Who records them."""

    def record(self, event: Event) -> None:
        """Count it, and hand it on."""
        kind = event["type"].removeprefix(TYPE_PREFIX)
        reason = event["data"][_REASON_OF[kind]] if kind in _REASON_OF else ""
        self._counts[kind, str(reason)] += 1
        self.hand_on(event)

    def samples(self) -> dict[str, float]:
        """Return its samples."""
        counts = {(kind, ""): 0 for kind in _WITHOUT_REASON} | self._counts
        found: dict[str, float] = {
            sample_name("kveil_identity_events_total", event=event, reason=reason): count
            for (event, reason), count in sorted(counts.items())
        }
        return {**found, "kveil_audit_events_total": self._counts.total()}
