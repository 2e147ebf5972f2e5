"""The spans of one request, named as OpenTelemetry's conventions for messaging have it."""

import asyncio
import threading
from collections.abc import Iterable
from random import random
from typing import Final

from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Span, SpanKind, StatusCode, set_span_in_context
from opentelemetry.trace import Tracer as SpanMaker

from kveil.protocol.kafka.api_table import ApiKey
from kveil.proxy.addresses import Endpoint
from kveil.proxy.errors import ErrorCode
from kveil.proxy.tracing import Carried, Phase

CLOSE_SECONDS: Final = 2.0
"""For the last spans, out of the 10 s that `docker stop` leaves for all."""

_OPERATIONS: Final = {ApiKey.PRODUCE: ("send", "send"), ApiKey.FETCH: ("poll", "receive")}
"""The operation's name, which is Kafka's word for it, and its type. A share group's fetch is a poll too."""

_NO_PARENT: Final = Context()


class Tracer:
    """Begins traces, and sees to it that they leave."""

    def __init__(self, provider: TracerProvider, sampled: float) -> None:
        """`sampled` is the part of the requests that gets a trace, from 0 to 1."""
        self._provider = provider
        self._sampled = sampled
        self._maker = provider.get_tracer("kveil")

    def begin(self, api_key: int, client_id: str | None, upstream: Endpoint | None) -> "Trace | None":
        """Return a new trace, None if this request isn't among those that are to have one."""
        if random() >= self._sampled:  # noqa: S311 - before the SDK, whose sampler costs a hundred times as much
            return None
        operation, kind = _OPERATIONS.get(ApiKey(api_key), _OPERATIONS[ApiKey.FETCH])
        span = self._maker.start_span(operation, _NO_PARENT, SpanKind.CLIENT)
        if not span.is_recording():  # OTEL_SDK_DISABLED
            return None
        span.set_attribute("messaging.system", "kafka")
        span.set_attribute("messaging.operation.name", operation)
        span.set_attribute("messaging.operation.type", kind)
        if client_id:
            span.set_attribute("messaging.client.id", client_id)
        if upstream is not None:
            span.set_attribute("server.address", upstream.host)
            span.set_attribute("server.port", upstream.port)
        return Trace(self._maker, span, operation)

    async def close(self) -> None:
        """Send what is left, as far as the collector takes it in time."""
        closing = threading.Thread(target=self._provider.shutdown, daemon=True, name="traces")
        closing.start()
        await asyncio.to_thread(closing.join, CLOSE_SECONDS)


class Trace:
    """The spans of one request. One phase follows the other."""

    def __init__(self, maker: SpanMaker, span: Span, operation: str) -> None:
        self._maker = maker
        self._span = span
        self._operation = operation
        self._context = set_span_in_context(span, _NO_PARENT)
        self._phase: Span | None = None

    def enter(self, phase: Phase) -> None:
        """End the phase before, and begin this one."""
        if self._phase is not None:
            self._phase.end()
        kind = SpanKind.CLIENT if phase is Phase.UPSTREAM else SpanKind.INTERNAL
        self._phase = self._maker.start_span(phase.value, self._context, kind)

    def carries(self, carried: Iterable[Carried]) -> None:
        """Take note of whose records these are. A name is told if there is but one, as the conventions ask."""
        parts = list(carried)
        if not parts:
            return
        self._span.set_attribute("messaging.batch.message_count", sum(one.records for one in parts))
        topic = parts[0].topic
        if topic is not None and all(one.topic == topic for one in parts):
            self._span.set_attribute("messaging.destination.name", topic)
            self._span.update_name(f"{self._operation} {topic}")
            if len(parts) == 1:
                self._span.set_attribute("messaging.destination.partition.id", str(parts[0].partition))

    def refused(self, topic: str | None, partition: int, code: ErrorCode, reason: str) -> None:
        """Take note of a partition that the proxy refuses, in the words that the log has too."""
        where = {"messaging.destination.partition.id": str(partition)}
        if topic is not None:
            where["messaging.destination.name"] = topic
        self._span.add_event("exception", {"exception.type": code.name, "exception.message": reason, **where})
        self._span.set_attribute("error.type", code.name)
        self._span.set_status(StatusCode.ERROR, reason)

    def end(self, problem: str | None = None) -> None:
        """End it, with what kept the answer from coming if anything did."""
        if problem is not None:
            self._span.set_attribute("error.type", "connection_closed")
            self._span.set_status(StatusCode.ERROR, problem)
        if self._phase is not None:
            self._phase.end()
        self._span.end()
