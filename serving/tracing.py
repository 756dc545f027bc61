"""Traces of requests, by OpenTelemetry (the extra `otel`). Imported only if tracing is on.

A request with a W3C traceparent is traced if its sender traces it; of the others, the share `ratio` is traced. The
provider is not the process's global one, so that other instrumentation in this process keeps its own.
"""

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Any

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import Scope

from labelwise.version import VERSION

_PARENT_HEADERS = (b"traceparent", b"tracestate")
# OpenTelemetry's semantic conventions name those that they know.
_ATTRIBUTES = {
    "method": "http.request.method",
    "route": "http.route",
    "status": "http.response.status_code",
    "problem": "error.type",
    "request_id": "labelwise.request_id",
    "model": "labelwise.model",
    "version": "labelwise.version",
    "images": "labelwise.images",
}

_innermost: ContextVar[Span] = ContextVar("labelwise_span")


class Traces:
    """Sends traces to the OTLP/HTTP collector at `endpoint`, on a separate thread."""

    def __init__(self, endpoint: str, ratio: float) -> None:
        resource = Resource.create({"service.name": "labelwise", "service.version": VERSION})
        self._provider = TracerProvider(ParentBased(TraceIdRatioBased(ratio)), resource, shutdown_on_exit=False)
        exporter = OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces")
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("labelwise", VERSION)
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, scope: Scope) -> "RequestTrace | None":
        """Returns the trace of a request, or None if it is not sampled."""
        given = {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in _PARENT_HEADERS}
        parent = self._propagator.extract(given)
        span = self._tracer.start_span(scope["method"], parent, SpanKind.SERVER)
        return RequestTrace(self._tracer, span) if span.is_recording() else None

    def close(self) -> None:
        """Sends the remaining spans; blocks for at most the exporter's timeout."""
        self._provider.shutdown()


class RequestTrace:
    """The spans of one request. Stages that run at the same time are in different tasks."""

    def __init__(self, tracer: Tracer, span: Span) -> None:
        self._tracer, self._span = tracer, span
        self.id = f"{span.get_span_context().trace_id:032x}"
        _innermost.set(span)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """A span for the `with` block, below the span around the block."""
        span = self._tracer.start_span(name, set_span_in_context(_innermost.get()))
        token = _innermost.set(span)
        try:
            yield
        except BaseException as error:
            span.set_status(Status(StatusCode.ERROR, type(error).__name__))
            raise
        finally:
            _innermost.reset(token)
            span.end()

    def traceparent(self) -> str:
        """Returns the W3C Trace Context of the innermost span, for the next server."""
        return f"00-{self.id}-{_innermost.get().get_span_context().span_id:016x}-01"

    def end(self, name: str, facts: Mapping[str, Any]) -> None:
        """Ends the trace: the request is answered."""
        self._span.update_name(f"{facts['method']} {name}")
        self._span.set_attributes({known: facts[fact] for fact, known in _ATTRIBUTES.items() if fact in facts})
        if facts["status"] >= 500:
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()
