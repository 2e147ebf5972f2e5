"""Traces: what the proxy did with a request that was chosen for one, and how long each part took.

    send orders                    a Produce or Fetch request, from its arrival to its answer
    ├── kveil.settings             waits for topics' settings, names, or what else is asked of the cluster
    ├── kveil.keys                 waits for keys, which a key service may have to wrap or unwrap
    ├── kveil.seal, kveil.open     the work on the records themselves
    └── kveil.upstream             waits for the broker

A trace is the proxy's own. The context that a client writes into its records' headers (`traceparent`) is content: it is
sealed and opened with them, byte for byte, and nobody looks at it here.

This module is what the rest of the program knows of traces; OpenTelemetry is imported only where they are asked for.
"""

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from kveil.protocol.kafka.api_table import ApiKey

if TYPE_CHECKING:
    from kveil.proxy.config import Settings
    from kveil.proxy.tracing.spans import Tracer

TRACED = frozenset({ApiKey.PRODUCE, ApiKey.FETCH, ApiKey.SHARE_FETCH})


class Phase(StrEnum):
    """What a request is at, which is the name of a span."""

    SETTINGS = "kveil.settings"
    KEYS = "kveil.keys"
    SEAL = "kveil.seal"
    OPEN = "kveil.open"
    UPSTREAM = "kveil.upstream"


class Carried(NamedTuple):
    """The records of one partition in a request or an answer."""

    topic: str | None
    partition: int
    records: int


def open_tracer(settings: "Settings") -> "Tracer | None":
    """Return who traces this process's requests, None where none are to be. Call it after the last fork."""
    if settings.tracing is None:
        return None
    from kveil.proxy.tracing.export import tracer_provider
    from kveil.proxy.tracing.spans import Tracer

    return Tracer(tracer_provider(settings.tracing), settings.tracing.sampled)
