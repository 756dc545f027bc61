"""One connection, with limits on time and size. Even an invalid request gets a problem as its answer."""

import asyncio
import socket
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from itertools import chain

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from serving.gateway.problems import PROBLEM_TYPE, Problem, retry_after
from serving.gateway.requests.answer import answering_at_once
from serving.gateway.requests.head import HeadRefused, check_head, resolve_target

LINGERING = 64  # connections beyond the limit that are told why they are refused; others are cut

_MAX_HEAD = 32 * 2**10  # bytes of request line and headers
_MAX_HEADERS = 100
_MAX_FRAMING = 24 * 2**10  # bytes of chunk extensions and trailers in one body; two more pieces may pass uncounted
_FRAME = 16  # bytes that the frame of each chunk may take besides: its size in hex and two line ends
_PIECE = 4 * 2**10  # bytes that are parsed at once while a limit applies, which is also its precision
_MAX_PIPELINED = 32  # requests sent ahead of their answers
_LINGER = 1.0  # seconds for a refused client to read why
_PROBE = 1.0  # seconds between checks whether a client that has finished sending still reads
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_DETAILS = {
    "malformed_request": "The request could not be understood as HTTP/1.1, so this connection ends.",
    "transfer_coding_unsupported": "Send the body as it is or chunked: this server decodes no other Transfer-Encoding.",
    "headers_too_large": f"Send at most {_MAX_HEADERS} headers, and {_MAX_HEAD // 1024} KiB of them, address included.",
    "header_timeout": "The request's headers took too long to arrive; try again.",
    "too_many_connections": "As many connections are open as this server takes; try again shortly.",
}


@dataclass(frozen=True)
class ConnectionLimits:
    """Times are in seconds. `on_refusal` is called with the problem's code at every refusal."""

    connections: int
    header_timeout: float
    send_timeout: float
    on_refusal: Callable[[str], None]


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1, with limits on what comes before the application: connections, headers and their time."""

    limits: ConnectionLimits

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._in_head, self._is_chunked = True, False
        self._head_bytes = 0  # of the head that is being read
        self._framing = 0  # bytes of a chunked body besides its content and the frames of its chunks
        self.url, self.headers = b"", []
        self._refusal = ""  # the code with which the connection ends, once there is one
        self._sends_no_more = False
        self._answered: RequestResponseCycle | None = None
        self._timer: asyncio.TimerHandle | None = None
        _limit_unsent(transport, self.limits.send_timeout)
        beyond = len(self.connections) - self.limits.connections
        if beyond > LINGERING:
            self.limits.on_refusal("too_many_connections")
            transport.abort()
        elif beyond > 0:
            self._refuse("too_many_connections")
        else:
            self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        if self._answered is not None and not self._answered.response_complete:
            _give_up(self._answered)  # uvicorn tells only the last request, which may still wait for its turn
        super().connection_lost(exc)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answered = cycle
        super()._start_asgi_task(cycle, answering_at_once(app, cycle))

    def data_received(self, data: bytes) -> None:
        if self._refusal:
            return
        self._unset_keepalive_if_required()
        try:
            self._feed(data)
        except httptools.HttpParserError as error:
            cause = error.__context__  # what on_headers_complete raised
            self._refuse(cause.code if isinstance(cause, HeadRefused) else "malformed_request")
        if self._in_head and self._head_bytes and not self._refusal:
            self._start_timer()  # most heads come in one piece and need none

    def _feed(self, data: bytes) -> None:
        """Parses `data`, in small pieces if a limit counts bytes that the parser does not report."""
        while data and not self._refusal:
            if not (self._in_head or self._is_chunked):
                self._feed_piece(data)
                return
            piece, data = data[:_PIECE], data[_PIECE:]
            if self._in_head:
                self._head_bytes += len(piece)
            else:
                self._framing += len(piece)
            self._feed_piece(piece)
            self._framing = max(self._framing, 0)  # small chunks save nothing up for a large extension
            if self._head_bytes > _MAX_HEAD or (self._is_chunked and self._framing > _MAX_FRAMING):
                self._refuse("headers_too_large")

    def _feed_piece(self, data: bytes) -> None:
        """Parses `data`; a request that offers another protocol is parsed again without the offer.

        This server speaks no other protocol, and the request means the same without the offer (RFC 9110, section 7.8),
        but the parser would leave its body unread. Java's client offers HTTP/2 by default.
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
        size = len(self.url) + 4 * len(self.headers) + sum(map(len, chain.from_iterable(self.headers)))
        if len(self.headers) > _MAX_HEADERS or size > _MAX_HEAD:
            raise HeadRefused("headers_too_large")
        method = self.parser.get_method()
        if method == b"CONNECT" or len(self.pipeline) >= _MAX_PIPELINED:
            raise HeadRefused("malformed_request")
        if self.parser.should_upgrade():
            return
        version = self.parser.get_http_version()
        self._is_chunked = check_head(version, self.headers)
        self.url, self.headers[:] = resolve_target(method, self.url, self.headers)
        if version == "1.0":
            self.expect_100_continue = False  # such a client would take 100 for the answer (RFC 9110, section 10.1.1)
        self._in_head, self._head_bytes, self._framing = False, 0, 0
        self._stop_timer()
        super().on_headers_complete()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # a body's trailers are not headers of the request (RFC 9110, section 6.5.1)
            name = name.lower()
            value = value.rstrip(b" \t")  # not part of a value (section 5.5); the parser leaves them
            if name == b"expect" and value.lower() == b"100-continue":
                self.expect_100_continue = True
            self.headers.append((name, value))

    def on_chunk_header(self) -> None:
        self._framing -= _FRAME

    def on_body(self, body: bytes) -> None:
        self._framing -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if not self.parser.should_upgrade():
            super().on_message_complete()
            self._in_head, self._is_chunked, self._head_bytes = True, False, 0

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            return
        if self._refusal or self._sends_no_more:
            if not self._is_answering():
                self._send_refusal() if self._refusal else self.transport.close()
        elif not self._in_head:
            self._start_timer()  # for the rest of an unread body

    def eof_received(self) -> bool:  # type: ignore[override]
        """Returns whether the connection stays open: a client that has finished sending may still read its answers."""
        if self._sends_no_more:
            return True
        self._drop_incomplete_request()
        if not self._is_answering():
            return False  # asyncio sends the rest, for example a refusal, and closes
        self._sends_no_more = True
        self._stop_timer()
        self._timer = self.loop.call_later(_PROBE, self._probe)
        return True

    def _probe(self) -> None:
        """Finds out whether a client that has finished sending has hung up: TCP tells that only in reply to data.

        Any number of these may precede an answer (RFC 9110, section 15.2), but not in HTTP/1.0.
        """
        cycle = self._answered
        if cycle is not None and not cycle.response_started and cycle.scope["http_version"] == "1.1":
            self.transport.write(_CONTINUE)
        self._timer = self.loop.call_later(_PROBE, self._probe)

    def _is_answering(self) -> bool:
        """Returns whether complete requests still wait for their answers."""
        current = self._answered
        return bool(self.pipeline) or not (current is None or current.response_complete or current.disconnected)

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
            self._start_timer()  # an earlier request is being answered, which has its own limit
        elif self._in_head and self._head_bytes:
            self._refuse("header_timeout")
        else:
            self.transport.close()  # no request has begun

    def _refuse(self, code: str) -> None:
        """Reads no more, answers the complete requests before, says why, and hangs up."""
        if self._refusal or self.transport.is_closing():
            return
        self._refusal = code
        self.limits.on_refusal(code)
        self._stop_timer()
        cycle = self.cycle
        if cycle is not None and cycle.more_body and cycle.response_started and not cycle.response_complete:
            self.transport.abort()  # an answer has begun, and nothing can follow half of it
            return
        self._drop_incomplete_request()
        if not self._is_answering():
            self._send_refusal()

    def _drop_incomplete_request(self) -> None:
        """Drops the request whose body is not complete: it can have no answer now."""
        if self.cycle is None or not self.cycle.more_body or self.cycle.response_complete:
            return
        if self.pipeline:
            self.pipeline.popleft()  # the newest
        _give_up(self.cycle)

    def _send_refusal(self) -> None:
        if self.transport.is_closing():
            return
        self._unset_keepalive_if_required()
        self._stop_timer()
        self.transport.write(_raw_problem(self._refusal))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        # Soon rather than at once, so that the client can read it.
        self._timer = self.loop.call_later(_LINGER, self.transport.abort)


def _give_up(cycle: RequestResponseCycle) -> None:
    cycle.disconnected = True
    cycle.message_event.set()


def _raw_problem(code: str) -> bytes:
    problem = Problem.of(code, _DETAILS[code], request_id=uuid.uuid4().hex)
    body = problem.model_dump_json().encode()
    head = [
        f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}",
        f"content-type: {PROBLEM_TYPE}",
        f"content-length: {len(body)}",
        f"x-request-id: {problem.request_id}",
        "x-content-type-options: nosniff",
        "connection: close",
        *(f"{name.lower()}: {value}" for name, value in retry_after(code).items()),
    ]
    return "\r\n".join([*head, "", ""]).encode() + body


def _limit_unsent(transport: asyncio.Transport, seconds: float) -> None:
    """Lets the kernel (Linux) end a connection whose client accepts no data."""
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    connection = transport.get_extra_info("socket")
    if option is not None and connection is not None and connection.family in (socket.AF_INET, socket.AF_INET6):
        connection.setsockopt(socket.IPPROTO_TCP, option, int(seconds * 1000))
