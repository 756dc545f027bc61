"""Passes on a body and an answer that come in one piece, as most do, with a fraction of uvicorn's steps."""

from collections.abc import Awaitable, MutableMapping
from itertools import chain
from typing import Any, cast

from starlette.types import Message
from uvicorn._types import ASGI3Application, ASGIReceiveCallable, ASGISendCallable, ASGISendEvent, Scope
from uvicorn.protocols.http.httptools_impl import HEADER_VALUE_RE, STATUS_LINE, RequestResponseCycle

ARRIVING = "labelwise.arriving"  # key in a scope: whatever has the body that arrives


def arrived_body(scope: MutableMapping[str, Any]) -> bytes | None:
    """Returns the whole body if it has arrived and nothing of it was received; otherwise it comes from `receive`."""
    cycle: RequestResponseCycle | None = scope.pop(ARRIVING, None)
    if cycle is None or cycle.more_body or cycle.disconnected or cycle.waiting_for_100_continue:
        return None
    cycle.flow.resume_reading()
    cycle.message_event.clear()
    body, cycle.body = bytes(cycle.body), bytearray()
    return body


def answering_at_once(app: ASGI3Application, cycle: RequestResponseCycle) -> ASGI3Application:
    """Returns `app` for the request of `cycle`. Only answers to POST are held back until they are whole: files, which
    may fail after their head, are answers to GET.
    """
    if cycle.scope["method"] != "POST":
        return app
    cast(dict[str, Any], cycle.scope)[ARRIVING] = cycle

    def answer(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> Awaitable[None]:
        return app(scope, receive, cast(ASGISendCallable, _Answer(cycle).send))

    return answer


class _Answer:
    """Holds back the head of an answer. If the whole body follows, both are written at once; otherwise by uvicorn."""

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._head: Message | None = None

    async def send(self, message: Message) -> None:
        head, self._head = self._head, None
        if head is not None:
            if self._write(head, message):
                return
            await self._cycle.send(cast(ASGISendEvent, head))
        elif message["type"] == "http.response.start" and not self._cycle.response_started:
            self._head = message
            return
        await self._cycle.send(cast(ASGISendEvent, message))

    def _write(self, head: Message, message: Message) -> bool:
        """Does as uvicorn for an answer with nothing special; returns whether it is one."""
        cycle, body = self._cycle, message.get("body", b"")
        headers = [*cycle.default_headers, *head.get("headers", ())]
        found = dict(headers)
        if (
            message.get("more_body", False)
            or found.get(b"content-length") != b"%d" % len(body)
            or b"connection" in found
            or not cycle.keep_alive
            or cycle.disconnected
            or cycle.flow.write_paused
            or HEADER_VALUE_RE.search(b"".join(chain.from_iterable(headers)))
        ):
            return False
        lines = b"\r\n".join(map(b": ".join, headers))
        cycle.transport.write(b"".join((STATUS_LINE[head["status"]], lines, b"\r\n\r\n", body)))
        cycle.waiting_for_100_continue = False
        cycle.response_started = cycle.response_complete = True
        cycle.message_event.set()
        cycle.on_response()
        return True
