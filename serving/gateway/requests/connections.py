"""The number of connections, the options with which uvicorn keeps to the limits, and the end of unread bodies."""

import logging
import resource
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.gateway.requests.answer import ARRIVING
from serving.gateway.requests.head import Headers, headers_of
from serving.gateway.requests.protocol import LINGERING, ConnectionLimits, LimitedProtocol
from serving.settings import Settings

logger = logging.getLogger("labelwise.gateway")

_OTHER_DESCRIPTORS = 256  # for everything except accepted connections: engine, files, bursts
_ACCEPTED_AT_ONCE = 64  # asyncio accepts up to this many before any is counted
_WORTH_READING = 2**20  # bytes; up to this many, reading the rest is cheaper than a new connection
_LINGER = 2.0  # seconds


def connection_options(app: ASGIApp, settings: Settings, on_refusal: Callable[[str], None]) -> dict[str, Any]:
    """Returns the options of uvicorn.Config that serve `app` within the limits of `settings`."""
    connections = _fit_to_descriptors(settings.max_connections)
    limits = ConnectionLimits(connections, settings.header_timeout, settings.send_timeout, on_refusal)
    return {
        "app": CloseUnread(app),
        "interface": "asgi3",  # uvicorn takes an app without `async def __call__` for ASGI 2
        "http": type("GatewayProtocol", (LimitedProtocol,), {"limits": limits}),
        "ws": "none",  # so that every scope is of the type http
        "lifespan": "off",
        "backlog": _ACCEPTED_AT_ONCE,
        "timeout_keep_alive": settings.keep_alive_timeout,
    }


def _fit_to_descriptors(connections: int) -> int:
    """Asks the system for more descriptors, and returns how many connections they are enough for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + LINGERING + _OTHER_DESCRIPTORS
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return connections
    soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    fitting = max(1, min(connections, soft - LINGERING - _OTHER_DESCRIPTORS))
    if fitting < connections:
        logger.warning("%d connections at most, not %d: the limit on open files is %d", fitting, connections, hard)
    return fitting


class CloseUnread:
    """Closes a connection whose request was answered before its body was read.

    Not at once: TCP answers unread data with a reset, and the client then drops the answer. So the whole
    answer is sent, further data is discarded for a moment, and only then the connection ends (RFC 9112, section 9.6).
    The server itself discards a short rest and keeps the connection.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        headers = headers_of(scope)
        size = _announced(headers)
        # After `Expect: 100-continue`, either the body or the next request follows a refusal; nothing tells which.
        if not size or (size <= _WORTH_READING and b"expect" not in headers):
            return self._app(scope, receive, send)
        scope.pop(ARRIVING, None)  # the body has to be received through the exchange
        exchange = _Exchange(receive, send)
        return self._app(scope, exchange.receive, exchange.send)


class _Exchange:
    """One request with a long body, and its answer."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self._unread, self._closing = True, False

    async def receive(self) -> Message:
        message = await self._receive()
        self._unread = message["type"] == "http.request" and message.get("more_body", False)
        return message

    def send(self, message: Message) -> Awaitable[None]:
        if self._unread or self._closing:
            return self._send_and_close(message)
        return self._send(message)

    async def _send_and_close(self, message: Message) -> None:
        if message["type"] == "http.response.start" and self._unread:
            self._closing = True
            MutableHeaders(scope=message)["Connection"] = "close"
        elif self._closing and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            with anyio.move_on_after(_LINGER):
                while self._unread:
                    await self.receive()
            message = {"type": "http.response.body"}
        await self._send(message)


def _announced(headers: Headers) -> float:
    """Returns the bytes of the body, or infinity if that is open."""
    if b"transfer-encoding" in headers:
        return float("inf")
    length = headers.get(b"content-length", b"0")
    return int(length) if length.isdigit() else float("inf")
