"""The shape of traces: where they go, and of how many requests."""

from importlib.util import find_spec
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from kveil.proxy.config import limits
from kveil.proxy.config.fields import Name
from kveil.proxy.config.section import Section


def _collector(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"https", "http"} or not parts.hostname or parts.query or parts.fragment:
        msg = "must be a URL, as in http://127.0.0.1:4318"
        raise ValueError(msg)
    if parts.username or parts.password:
        msg = "must not have a user or a password in it: set OTEL_EXPORTER_OTLP_HEADERS"
        raise ValueError(msg)
    return value


class Tracing(Section):
    """Traces of requests with records, by OpenTelemetry. They hold names, counts and times, never a payload."""

    endpoint: Annotated[str, AfterValidator(_collector)] | None = None
    """Where a collector takes OTLP over HTTP, as in `http://127.0.0.1:4318`; a path other than `/v1/traces` is written
    too. Without it, what `OTEL_EXPORTER_OTLP_ENDPOINT` says, else `http://localhost:4318`."""
    sampled: Annotated[float, Field(ge=0, le=1)] = limits.TRACES_SAMPLED
    """Which part of the requests is traced, from 0 to 1, which is all."""
    service_name: Name | None = None
    """The spans' `service.name`. Without it, what `OTEL_SERVICE_NAME` says, else `kveil`."""


def is_installed(tracing: Tracing | None) -> Tracing | None:
    """`tracing` if what it needs is installed."""
    if tracing is not None and not _has_exporter():
        msg = "needs OpenTelemetry's SDK, which is not installed: pip install 'kveil[otel]'"
        raise ValueError(msg)
    return tracing


def _has_exporter() -> bool:
    try:
        return all(find_spec(f"opentelemetry.{name}") for name in ("sdk.trace", "exporter.otlp.proto.http"))
    except ModuleNotFoundError:  # a package above it
        return False
