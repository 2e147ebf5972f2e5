"""Every metric that there is: its name, kind, labels and meaning, and how those of several processes make one.

The names are for ever: dashboards and alert rules of others name them.
"""

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple


class Kind(StrEnum):
    """Prometheus' kinds of metrics."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Family(NamedTuple):
    """One metric."""

    name: str
    """Of a counter with its `_total`."""
    kind: Kind
    labels: tuple[str, ...]
    meaning: str
    combine: Callable[[Iterable[float]], float] = sum
    """What the values of several processes are together."""

    @property
    def series(self) -> tuple[str, ...]:
        """The names that its samples have."""
        if self.kind is Kind.HISTOGRAM:
            return tuple(f"{self.name}_{part}" for part in ("bucket", "count", "sum"))
        return (self.name,)


_COUNTER, _GAUGE, _HISTOGRAM = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM

FAMILIES: Final = (
    Family("kveil_connections_open", _GAUGE, (), "Client connections that are open."),
    Family("kveil_connections_total", _COUNTER, (), "Client connections that were let in."),
    Family("kveil_requests_total", _COUNTER, ("api",), "Requests of clients, by Kafka API."),
    Family("kveil_requests_in_flight", _GAUGE, (), "Requests that wait for their answer, the proxy's own included."),
    Family("kveil_sealed_batches_total", _COUNTER, (), "Batches that were sealed."),
    Family("kveil_sealed_records_total", _COUNTER, (), "Records that were sealed."),
    Family("kveil_sealed_bytes_total", _COUNTER, (), "Bytes of plaintext that were sealed: batches with headers."),
    Family("kveil_opened_batches_total", _COUNTER, (), "Batches that were opened."),
    Family("kveil_opened_records_total", _COUNTER, (), "Records that were opened."),
    Family("kveil_opened_bytes_total", _COUNTER, (), "Bytes of plaintext that were opened: batches with headers."),
    Family("kveil_topic_sealed_batches_total", _COUNTER, ("topic",), "Batches that were sealed, by topic."),
    Family("kveil_topic_sealed_records_total", _COUNTER, ("topic",), "Records that were sealed, by topic."),
    Family("kveil_topic_sealed_bytes_total", _COUNTER, ("topic",), "Bytes that were sealed, by topic."),
    Family("kveil_topic_opened_batches_total", _COUNTER, ("topic",), "Batches that were opened, by topic."),
    Family("kveil_topic_opened_records_total", _COUNTER, ("topic",), "Records that were opened, by topic."),
    Family("kveil_topic_opened_bytes_total", _COUNTER, ("topic",), "Bytes that were opened, by topic."),
    Family(
        "kveil_refusals_total",
        _COUNTER,
        ("error",),
        "Partitions that the proxy refused, by the error that clients got.",
    ),
    Family(
        "kveil_added_seconds",
        _HISTOGRAM,
        ("work",),
        "What the proxy adds: from a whole frame with records to the frame that goes on, waits for keys included. "
        "seal: a produce request; open: a fetch answer.",
    ),
    Family(
        "kveil_key_calls_total",
        _COUNTER,
        ("service", "operation", "outcome"),
        "Calls to key services, further tries included; outcome is ok, refused, denied or unavailable.",
    ),
    Family(
        "kveil_key_call_seconds",
        _HISTOGRAM,
        ("service", "operation"),
        "How long a try of a call to a key service took.",
    ),
    Family(
        "kveil_cache_entries",
        _GAUGE,
        ("cache",),
        "What is remembered: opened_keys, epoch_keys, refused_keys, topic_settings.",
    ),
    Family("kveil_epoch_key_age_seconds", _GAUGE, (), "Age of the oldest epoch key that seals.", max),
    Family("kveil_event_loop_lag_seconds", _GAUGE, (), "The latest that the event loop was in the last minute.", max),
    Family(
        "kveil_certificate_expiry_timestamp_seconds",
        _GAUGE,
        ("certificate",),
        "When a certificate of the proxy's own expires, as Unix time: upstream, or a listener.",
        min,
    ),
    Family(
        "kveil_token_expiry_timestamp_seconds",
        _GAUGE,
        (),
        "When the bearer token for the cluster expires, as Unix time. The next login renews it.",
        min,
    ),
    Family(
        "kveil_config_loaded_timestamp_seconds",
        _GAUGE,
        (),
        "When the configuration in force was taken up, as Unix time: at the start, or by a reload that succeeded.",
        min,
    ),
    Family("kveil_config_reload_failed", _GAUGE, (), "1 if the last reload was refused, else 0.", max),
    Family("kveil_audit_events_total", _COUNTER, (), "Audit events."),
    Family(
        "kveil_audit_waiting", _GAUGE, ("sink",), "Audit events that a sink has not taken yet: stdout, file, topic."
    ),
    Family("kveil_audit_lost_total", _COUNTER, ("sink",), "Audit events that found no room, and reach the sink never."),
    Family(
        "kveil_control_records_total",
        _COUNTER,
        ("outcome",),
        "Records of the control topic, by what became of them: taken, known, waiting, passed or refused.",
    ),
    Family("kveil_announcements_total", _COUNTER, (), "Epoch keys that were announced on the control topic."),
    Family(
        "kveil_stream_alarms_total",
        _COUNTER,
        ("kind",),
        "Batches of producers that came again, in another order, in two versions, or are missing.",
    ),
    Family("kveil_identity_alarms", _GAUGE, ("kind",), "What is wrong with the control topic now, by kind.", max),
    Family(
        "kveil_checkpoint_expiry_timestamp_seconds",
        _GAUGE,
        (),
        "When the newest checkpoint expires, as Unix time. Then nothing is sealed with keys of identities.",
        min,
    ),
    Family(
        "kveil_credential_expiry_timestamp_seconds",
        _GAUGE,
        (),
        "When this node's credential expires, as Unix time. It must have another one by then.",
        min,
    ),
    Family("kveil_checkpoint_number", _GAUGE, (), "Number of the newest checkpoint: it grows.", min),
    Family("kveil_members", _GAUGE, (), "Members of the realm, as its authority has them."),
    Family(
        "kveil_identity_events_total",
        _COUNTER,
        ("event", "reason"),
        "What this process of the authority or the keeper has done, by audit event; of ticket.refused with the reason, "
        "of identity.alarm with the kind.",
    ),
    Family("kveil_cpu_seconds_total", _COUNTER, (), "Processor time that was used."),
)

SERIES: Final[Mapping[str, Family]] = MappingProxyType({name: family for family in FAMILIES for name in family.series})
"""The metric that a sample belongs to, by the sample's name."""


def family_of(sample: str) -> Family:
    """Return the metric of a sample such as `kveil_requests_total{api="Produce"}`."""
    return SERIES[sample.partition("{")[0]]
