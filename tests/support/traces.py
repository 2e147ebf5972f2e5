"""Traces that stay in the process, for a test to look at."""

from itertools import pairwise
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from kveil.proxy.tracing.spans import Tracer


class Traces:
    """A tracer, and what it has told."""

    def __init__(self, sampled: float = 1.0, **provider: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False, **provider)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = Tracer(self.provider, sampled)

    @property
    def ended(self) -> tuple[ReadableSpan, ...]:
        """The spans that have ended, in that order."""
        return self.exporter.get_finished_spans()

    @property
    def root(self) -> ReadableSpan:
        """The one trace's first span."""
        (found,) = [span for span in self.ended if span.parent is None]
        return found

    @property
    def phases(self) -> list[str]:
        """The names below the root, in their order. None overlaps the one before."""
        below = [span for span in self.ended if span.parent is not None]
        assert {span.parent.span_id for span in below} <= {self.root.context.span_id}
        for one, following in pairwise(below):
            assert self.root.start_time <= one.start_time <= one.end_time <= following.start_time
        return [span.name for span in below]
