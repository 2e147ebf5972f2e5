"""How spans leave: in batches, by a thread of the SDK's, to a collector that takes OTLP over HTTP.

What isn't set here, the SDK has from its own variables: `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_BSP_SCHEDULE_DELAY`,
`OTEL_RESOURCE_ATTRIBUTES` and others.
"""

import logging
from importlib.metadata import version
from typing import Final
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from kveil.proxy.config import Tracing
from kveil.proxy.log import get_logger, log_limited

_log = get_logger(__name__)

PATH: Final = "/v1/traces"
_LONGEST: Final = 300
"""Characters of what a collector answers."""
_UNNAMED: Final = "unknown_service"
"""What the SDK calls a service that nobody has named, with the interpreter's name behind it."""


def tracer_provider(tracing: Tracing, exporter: SpanExporter | None = None) -> TracerProvider:
    """Return the SDK's part, which sends by `exporter`, OTLP if there is none. The tracer has chosen what to trace."""
    _tell_by_our_log()
    # Ended by the server, within bounds; the SDK would wait half a minute for a collector that is gone.
    provider = TracerProvider(sampler=ALWAYS_ON, resource=_resource(tracing), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter or OTLPSpanExporter(endpoint=_endpoint(tracing))))
    return provider


def _endpoint(tracing: Tracing) -> str | None:
    """The collector's address for traces; None if the SDK's variables say it, or its default holds."""
    if tracing.endpoint is None or urlsplit(tracing.endpoint).path not in {"", "/"}:
        return tracing.endpoint
    return tracing.endpoint.rstrip("/") + PATH


def _resource(tracing: Tracing) -> Resource:
    """Who speaks."""
    named = {} if tracing.service_name is None else {SERVICE_NAME: tracing.service_name}
    resource = Resource.create({SERVICE_VERSION: version("kveil"), **named})
    if str(resource.attributes[SERVICE_NAME]).startswith(_UNNAMED):
        return resource.merge(Resource({SERVICE_NAME: "kveil"}))
    return resource


class _ToOurLog(logging.Handler):
    """Writes what the SDK has to say as lines of the proxy's log. Tracebacks are left out: a name says enough."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[0] if record.exc_info else None
        why = record.getMessage()[:_LONGEST] + (f" ({error.__name__})" if error else "")
        log_limited(_log.warning, "tracing_trouble", key=record.msg, why=why)


def _tell_by_our_log() -> None:
    logger = logging.getLogger("opentelemetry")
    logger.handlers = [_ToOurLog(logging.WARNING)]
    logger.propagate = False
