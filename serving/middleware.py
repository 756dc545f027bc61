"""A request id for every answer, and a count and a time for every request. Plain ASGI: it adds microseconds."""

import re
import time
import uuid

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.metrics import Metrics

_HEADER = b"x-request-id"
_ACCEPTED_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class Observe:
    """Takes a client's X-Request-ID if it is harmless, else makes one; sends it back with the answer."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        header = (_HEADER, request_id.encode())
        scope.setdefault("state", {})["request_id"] = request_id
        started, status = time.perf_counter(), 500

        async def observed_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), header]
            await send(message)

        try:
            await self._app(scope, receive, observed_send)
        finally:
            self._record(scope, status, time.perf_counter() - started)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        # The route's template, not the path: paths are the client's to invent, and each would be a new series.
        route = getattr(scope.get("route"), "path", "other")
        self._metrics.requests.labels(route, str(status)).inc()
        self._metrics.request_seconds.labels(route).observe(seconds)
        if problem := scope["state"].get("problem"):
            self._metrics.problems.labels(problem).inc()


def _request_id(scope: Scope) -> str:
    given = next((value for key, value in scope["headers"] if key == _HEADER), b"")
    return given.decode() if _ACCEPTED_ID.fullmatch(given) else uuid.uuid4().hex
