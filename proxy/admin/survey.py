"""What a process can tell of itself now: its counters, and what is looked up only when somebody asks."""

import time
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from kveil.protocol.envelope.stream import Kind as StreamAlarm
from kveil.protocol.identity.alarms import AlarmKind
from kveil.proxy.admin.audit_trail import Trail
from kveil.proxy.admin.certificates import expiry_of
from kveil.proxy.admin.lag import LoopLag
from kveil.proxy.admin.metrics import sample_name
from kveil.proxy.context import Connection, Shared
from kveil.proxy.credentials import Credentials

if TYPE_CHECKING:
    from kveil.proxy.identity.control import Control
    from kveil.proxy.keys.announced import AnnouncedKeys


class Served(Protocol):
    """One client's connection."""

    @property
    def connection(self) -> Connection:
        """Whose it is."""
        ...

    @property
    def in_flight(self) -> int:
        """How many requests wait for their answer."""
        ...


class Survey:
    """All of it, for one process. `credentials` are the proxy's own for the cluster, if it has any."""

    def __init__(
        self,
        shared: Shared,
        credentials: Credentials | None,
        served: Collection[Served],
        trail: Trail | None = None,
    ) -> None:
        self.shared = shared
        self.served = served
        self._credentials = credentials
        self._trail = trail
        self._lag = LoopLag()

    def log_in_with(self, credentials: Credentials | None) -> None:
        """Tell of these credentials from now on."""
        self._credentials = credentials

    def start(self) -> None:
        """Watch the event loop from now on."""
        self._lag.start()

    def stop(self) -> None:
        """Watch no more."""
        self._lag.stop()

    def samples(self) -> dict[str, float]:
        """Return every metric's samples."""
        audit = {} if self._trail is None else self._trail.samples()
        return {**self.shared.metrics.samples(), **audit, **self._gauges()}

    def _gauges(self) -> dict[str, float]:
        shared = self.shared
        keys = shared.survey_keys()
        sizes = {
            "opened_keys": keys.opened,
            "epoch_keys": len(keys.epochs),
            "refused_keys": keys.refused,
            "topic_settings": len(shared.topic_settings),
        }
        found: dict[str, float] = {
            "kveil_requests_in_flight": sum(one.in_flight for one in self.served),
            **{sample_name("kveil_cache_entries", cache=cache): size for cache, size in sizes.items()},
            "kveil_epoch_key_age_seconds": max((epoch.age_seconds for epoch in keys.epochs.values()), default=0),
            "kveil_event_loop_lag_seconds": self._lag.seconds,
            "kveil_cpu_seconds_total": time.process_time(),
            **shared.metrics.reloads.samples(),
        }
        if shared.announced_keys is not None:
            found |= _identity_gauges(shared.announced_keys)
        for certificate, path in _certificates(shared):
            expiry = expiry_of(path)
            if expiry is not None:
                found[sample_name("kveil_certificate_expiry_timestamp_seconds", certificate=certificate)] = expiry
        token_until = None if self._credentials is None else self._credentials.token_expires_at
        if token_until is not None:
            found["kveil_token_expiry_timestamp_seconds"] = shared.unix_time() + token_until - shared.now()
        return found


def _identity_gauges(keys: "AnnouncedKeys") -> dict[str, float]:
    found = {**control_samples(keys.control), "kveil_announcements_total": keys.announcements}
    for found_kind in (kind for kind in StreamAlarm if not kind.is_notice):
        found[sample_name("kveil_stream_alarms_total", kind=found_kind.name.lower())] = keys.streams.alarms[found_kind]
    return found


def control_samples(control: "Control") -> dict[str, float]:
    """What a node knows of the control topic."""
    alarms = Counter(alarm.kind for alarm in control.alarms)
    found: dict[str, float] = {}
    for outcome, count in control.outcomes.items():
        found[sample_name("kveil_control_records_total", outcome=outcome)] = count
    for kind in AlarmKind:
        found[sample_name("kveil_identity_alarms", kind=kind)] = alarms[kind]
    if (checkpoint := control.view.checkpoint) is not None:
        found["kveil_checkpoint_expiry_timestamp_seconds"] = checkpoint.expires
        found["kveil_checkpoint_number"] = checkpoint.number
    if (listed := control.view.live().get(control.me)) is not None:
        found["kveil_credential_expiry_timestamp_seconds"] = listed.credential.expires
    return found


def _certificates(shared: Shared) -> Iterator[tuple[str, Path]]:
    tls = shared.settings.upstream.tls
    if tls is not None and tls.cert is not None:
        yield "upstream", tls.cert
    for listener in shared.settings.listeners:
        if listener.tls is not None:
            yield listener.label, listener.tls.cert
