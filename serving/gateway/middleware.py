"""Request ids, the count, time and log line of every request, traces of some, and HEAD. Plain ASGI."""

import re
import time
from collections.abc import Awaitable
from random import getrandbits
from typing import TYPE_CHECKING, Any

from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.gateway.access.exposure import HEADERS_OF_ALL
from serving.gateway.observe.logs import log_request
from serving.gateway.observe.metrics import Metrics
from serving.gateway.requests.head import headers_of
from serving.stages import current_trace

if TYPE_CHECKING:
    from serving.tracing import Traces

_HEADER = b"x-request-id"
_ACCEPTED_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class Observe:
    """Counts, times and logs every request, with `only_problems` only those that failed, and traces those sampled.

    The answer has an X-Request-ID: the client's if that is harmless, otherwise a new one. It also has HEADERS_OF_ALL.
    What the app adds to the `state` in the scope is logged and traced; that is never a photo or a photo's name.
    """

    def __init__(
        self, app: ASGIApp, metrics: Metrics, only_problems: bool = False, traces: "Traces | None" = None
    ) -> None:
        self._app, self._metrics = app, metrics
        self._only_problems, self._traces = only_problems, traces
        self._add_answer = metrics.writes.channel(self._write)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = _request_id(scope)
        headers = ((_HEADER, request_id.encode()), *HEADERS_OF_ALL)
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        trace = None if self._traces is None else self._traces.begin(scope)
        current_trace.set(trace)
        if trace is not None:
            state["trace_id"] = trace.id
        started = time.perf_counter()

        def observed_send(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                state["status"] = message["status"]
                message["headers"] = [*message.get("headers", ()), *headers]
            return send(message)

        try:
            await self._app(scope, receive, observed_send)
        finally:
            self._record(scope, state.get("status", 500), time.perf_counter() - started)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        # The route's template, not the path: clients invent paths, and each would be a new series.
        matched, state = scope.get("route"), scope["state"]
        route = matched.path_format if isinstance(matched, APIRoute) else "other"
        facts = {**state, "method": scope["method"], "route": route, "status": status, "seconds": round(seconds, 6)}
        self._add_answer((facts, time.time()))
        self._metrics.writes.write_soon()
        if trace := current_trace.get():
            trace.end(route, facts)

    def _write(self, answer: tuple[dict[str, Any], float]) -> None:
        facts, answered = answer
        self._metrics.count_answer(facts["route"], facts["status"], facts["seconds"])
        problem = facts.get("problem")
        if problem is not None:
            self._metrics.problems.labels(problem).inc()
        if problem is not None or not self._only_problems:
            log_request(facts, answered)


class AnswerHead:
    """Answers HEAD as GET, because probes send it and FastAPI's routes refuse it. The server leaves the body out.

    Range is ignored, as RFC 9110, section 14.2, allows: starlette answers a malformed one with plain text.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["method"] in ("GET", "HEAD"):
            return self._get(scope, receive, send)
        return self._app(scope, receive, send)

    async def _get(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = {**scope, "method": "GET", "headers": [pair for pair in scope["headers"] if pair[0] != b"range"]}
        try:
            await self._app(asked, receive, send)
        finally:
            scope["route"] = asked.get("route")


def _request_id(scope: Scope) -> str:
    """An id must be unique, not secret: random bits without a system call, which would release the GIL."""
    given = headers_of(scope).get(_HEADER, b"")
    return given.decode() if _ACCEPTED_ID.fullmatch(given) else f"{getrandbits(128):032x}"
