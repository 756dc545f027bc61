"""Connections: bounded in number, time and size, and answered as a problem even where there was no valid request."""

import asyncio
import logging
import socket
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import httptools
from starlette.types import ASGIApp
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from serving.gateway.errors import PROBLEM_TYPE, PROBLEMS, Problem
from serving.gateway.requests.unread import CloseUnread
from serving.settings import Settings

logger = logging.getLogger("labelwise.gateway")

_MAX_HEAD = 32 * 2**10  # bytes of request line and headers
_MAX_HEADERS = 100
_MAX_PIPELINED = 32  # requests sent ahead of their answers
_LINGER = 1.0  # seconds in which a refused client may read why
_LINGERING = 64  # connections that may do so beyond the limit; what comes on top is cut
_OTHER_DESCRIPTORS = 256  # for all that is no accepted connection: engine, files, bursts
_ACCEPTED_AT_ONCE = 64  # asyncio accepts so many before any is counted

_DETAILS = {
    "malformed_request": "The request could not be understood as HTTP/1.1, so this connection ends.",
    "headers_too_large": f"Send at most {_MAX_HEADERS} headers, and {_MAX_HEAD // 1024} KiB of them, address included.",
    "header_timeout": "The request's headers took too long to arrive; try again.",
    "too_many_connections": "As many connections are open as this server takes; try again shortly.",
}


@dataclass(frozen=True)
class ConnectionLimits:
    """Times in seconds; `on_refusal` is told the problem's code of every refusal."""

    connections: int
    header_timeout: float
    send_timeout: float
    on_refusal: Callable[[str], None]


def connection_options(app: ASGIApp, settings: Settings, on_refusal: Callable[[str], None]) -> dict[str, Any]:
    """What uvicorn.Config needs to serve `app` within the limits of `settings`."""
    connections = _fit_to_descriptors(settings.max_connections)
    limits = ConnectionLimits(connections, settings.header_timeout, settings.send_timeout, on_refusal)
    return {
        "app": CloseUnread(app),
        "http": type("GatewayProtocol", (LimitedProtocol,), {"limits": limits}),
        "ws": "none",
        "backlog": _ACCEPTED_AT_ONCE,
        "timeout_keep_alive": settings.keep_alive_timeout,
    }


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 with limits on what precedes the application: connections, headers, and their time."""

    limits: ConnectionLimits

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._in_head, self._head_bytes = True, 0  # bytes since there last was something else
        self.url, self.headers = b"", []
        self._refused = False
        self._answered: RequestResponseCycle | None = None
        self._timer: asyncio.TimerHandle | None = None
        _limit_unsent(transport, self.limits.send_timeout)
        beyond = len(self.connections) - self.limits.connections
        if beyond > _LINGERING:
            self.limits.on_refusal("too_many_connections")
            transport.abort()
        elif beyond > 0:
            self._refuse("too_many_connections")
        else:
            self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        if self._answered is not None and not self._answered.response_complete:
            self._answered.disconnected = True  # uvicorn tells the last request, which may still wait for its turn
            self._answered.message_event.set()
        super().connection_lost(exc)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answered = cycle
        super()._start_asgi_task(cycle, app)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._unset_keepalive_if_required()
        self._head_bytes += len(data)
        if self._in_head:
            self._start_timer()
        try:
            self._feed(data)
        except httptools.HttpParserError:
            self._refuse("headers_too_large" if self._is_head_too_large() else "malformed_request")
        if self._head_bytes > _MAX_HEAD:
            self._refuse("headers_too_large")

    def _feed(self, data: bytes) -> None:
        """Parse; a request that offers another protocol is read again without the offer.

        None is spoken here, and the request means the same without (RFC 9110, section 7.8), but the parser would leave
        its body unread. Java's client offers HTTP/2 by default.
        """
        while data:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                start = b"%s %s HTTP/1.1\r\n" % (self.parser.get_method(), self.url)
                headers = [b"%s: %s\r\n" % header for header in self.headers if header[0] != b"upgrade"]
                data = start + b"".join(headers) + b"\r\n" + data[upgrade.args[0] :]
                self.parser = httptools.HttpRequestParser(self)

    def on_headers_complete(self) -> None:
        connects = self.parser.get_method() == b"CONNECT"
        if connects or self._is_head_too_large() or len(self.pipeline) >= _MAX_PIPELINED:
            raise ValueError  # stops the parser; data_received sees that
        if not self.parser.should_upgrade():
            self._in_head, self._head_bytes = False, 0
            self._stop_timer()
            super().on_headers_complete()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # what trails a body is none of the request's headers (RFC 9110, section 6.5.1)
            super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        self._head_bytes = 0  # what comes between pieces of a body, and behind it, has the limit of a head
        super().on_body(body)

    def on_message_complete(self) -> None:
        if not self.parser.should_upgrade():
            super().on_message_complete()
            self._in_head, self._head_bytes = True, 0

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._in_head and not self.transport.is_closing():
            self._start_timer()  # for the rest of a body that nobody waits for

    def _is_head_too_large(self) -> bool:
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        return len(self.headers) > _MAX_HEADERS or size > _MAX_HEAD

    def _start_timer(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(self.limits.header_timeout, self._on_late)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_late(self) -> None:
        self._timer = None
        if self.cycle is not None and not self.cycle.response_complete:
            self._start_timer()  # an earlier request is being answered, and that has its own limit
        elif self._in_head and self._head_bytes:
            self._refuse("header_timeout")
        else:
            self.transport.close()  # nothing was asked

    def _refuse(self, code: str) -> None:
        """Say why, read no more, and hang up: soon rather than at once, so that the client can read it."""
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        self.limits.on_refusal(code)
        self._stop_timer()
        if self.cycle is not None and not self.cycle.response_complete and not self._give_up_request():
            return
        self.transport.write(_raw_problem(code))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._timer = self.loop.call_later(_LINGER, self.transport.abort)

    def _give_up_request(self) -> bool:
        """Whether the request that is being worked on is the refused one, and can still be told so."""
        if self.cycle.more_body and not self.cycle.response_started and not self.pipeline:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            return True
        if self.cycle.more_body or self.pipeline:
            self.transport.abort()
        else:
            self.cycle.keep_alive = False  # an earlier one: its answer is the last on this connection
        return False


def _raw_problem(code: str) -> bytes:
    status, title = PROBLEMS[code]
    request_id = uuid.uuid4().hex
    problem = Problem(title=title, status=status, detail=_DETAILS[code], code=code, request_id=request_id)
    body = problem.model_dump_json().encode()
    head = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        f"content-type: {PROBLEM_TYPE}",
        f"content-length: {len(body)}",
        f"x-request-id: {request_id}",
        "x-content-type-options: nosniff",
        "connection: close",
        *(["retry-after: 1"] if status == HTTPStatus.SERVICE_UNAVAILABLE else []),
    ]
    return "\r\n".join([*head, "", ""]).encode() + body


def _limit_unsent(transport: asyncio.Transport, seconds: float) -> None:
    """Let the kernel (Linux) end a connection whose client takes nothing of what was sent."""
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    connection = transport.get_extra_info("socket")
    if option is not None and connection is not None and connection.family in (socket.AF_INET, socket.AF_INET6):
        connection.setsockopt(socket.IPPROTO_TCP, option, int(seconds * 1000))


def _fit_to_descriptors(connections: int) -> int:
    """As many connections as this process may have descriptors for, after asking the system for more of them."""
    try:
        import resource
    except ImportError:
        return connections  # Windows has no such limit
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + _LINGERING + _OTHER_DESCRIPTORS
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return connections
    soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    fitting = max(1, min(connections, soft - _LINGERING - _OTHER_DESCRIPTORS))
    if fitting < connections:
        logger.warning("%d connections at most, not %d: the limit on open files is %d", fitting, connections, hard)
    return fitting
