"""A collector of traces: it takes OTLP over HTTP and reads it by OpenTelemetry's own schema.

with Collector() as collector:
    collector.url, collector.wait_for("send orders"), collector.spans
"""

import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.local_http import LocalHttp

SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectedSpan:
    """A span as it came in."""

    name: str
    service: str
    trace_id: bytes
    span_id: bytes
    parent_id: bytes
    begun: int
    """Nanoseconds since 1970, as `ended`."""
    ended: int
    failed: bool
    attributes: dict[str, Any]


class Collector(LocalHttp):
    """Answers as `status` says."""

    def __init__(self) -> None:
        self.status = 200
        self.bodies: list[bytes] = []
        self.paths: list[str] = []
        self._came = threading.Condition()

    @property
    def url(self) -> str:
        """For `tracing.endpoint`."""
        return self.address

    @property
    def spans(self) -> list[CollectedSpan]:
        """All that came in, in the order in which they ended."""
        return [span for body in list(self.bodies) for span in _read(body)]

    def wait_for(self, name: str, count: int = 1) -> list[CollectedSpan]:
        """Wait for so many spans of a name and return them."""
        deadline = time.monotonic() + SECONDS
        with self._came:
            while len(found := [span for span in self.spans if span.name == name]) < count:
                assert self._came.wait(deadline - time.monotonic()), [span.name for span in self.spans]
        return found

    def children(self, span: CollectedSpan) -> list[CollectedSpan]:
        """The spans below one, in the order of their beginning."""
        return sorted((one for one in self.spans if one.parent_id == span.span_id), key=lambda one: one.begun)

    def answer(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        """Take it, and answer as `status` says."""
        with self._came:
            self.paths.append(request.path)
            if self.status == 200:
                self.bodies.append(body)
            self._came.notify_all()
        request.send_response(self.status)
        request.send_header("Content-Length", "0")
        request.end_headers()


def _read(body: bytes) -> list[CollectedSpan]:
    found = []
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        about = {one.key: one.value.string_value for one in resource.resource.attributes}
        found += [
            CollectedSpan(
                name=span.name,
                service=about["service.name"],
                trace_id=span.trace_id,
                span_id=span.span_id,
                parent_id=span.parent_span_id,
                begun=span.start_time_unix_nano,
                ended=span.end_time_unix_nano,
                failed=span.status.code == span.status.STATUS_CODE_ERROR,
                attributes={
                    one.key: one.value.int_value if one.value.HasField("int_value") else one.value.string_value
                    for one in span.attributes
                },
            )
            for scope in resource.scope_spans
            for span in scope.spans
        ]
    return found
