"""Answers are written at once where they are whole, and by uvicorn in every other case, with the same bytes."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from starlette.types import Message
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from serving.gateway.requests.answer import answering_at_once, arrived_body

BODY = b'{"tags": []}'
LENGTH = (b"content-length", b"%d" % len(BODY))


class Transport:
    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.is_closed = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def close(self) -> None:
        self.is_closed = True


def new_cycle(
    method: str, transport: Transport, keep_alive: bool = True, on_response: Callable[[], object] = lambda: None
) -> RequestResponseCycle:
    logger: Any = SimpleNamespace(error=lambda *_, exc_info=None: None)
    return RequestResponseCycle(
        scope=cast(Any, {"method": method, "http_version": "1.1"}),
        transport=cast(Any, transport),
        flow=FlowControl(cast(Any, transport)),
        logger=logger,
        access_logger=logger,
        access_log=False,
        default_headers=[(b"date", b"today")],
        message_event=asyncio.Event(),
        expect_100_continue=False,
        keep_alive=keep_alive,
        on_response=on_response,
    )


def answered(method: str, *messages: Message, keep_alive: bool = True) -> tuple[list[bytes], bool, int]:
    """What is written for these messages, whether the connection closes, and how many answers were complete."""
    transport, completed = Transport(), []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(dict(message))

    async def main() -> None:
        cycle = new_cycle(method, transport, keep_alive, lambda: completed.append(True))
        await cycle.run_asgi(answering_at_once(app, cycle))

    asyncio.run(main())
    return transport.written, transport.is_closed, len(completed)


def head(*headers: tuple[bytes, bytes], status: int = 200) -> Message:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def body(content: bytes, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": content, "more_body": more}


@pytest.mark.parametrize(
    "messages",
    [
        (head(LENGTH, (b"x-request-id", b"a")), body(BODY)),
        (head(LENGTH, status=422), body(BODY)),
        (head(LENGTH), body(BODY[:5], more=True), body(BODY[5:])),
        (head(), body(BODY)),
        (head(LENGTH, (b"connection", b"close")), body(BODY)),
    ],
)
@pytest.mark.parametrize("keep_alive", [True, False])
def test_the_answer_is_that_of_uvicorn(messages: tuple[Message, ...], keep_alive: bool) -> None:
    ours = answered("POST", *messages, keep_alive=keep_alive)
    theirs = answered("GET", *messages, keep_alive=keep_alive)
    assert b"".join(ours[0]) == b"".join(theirs[0])
    assert ours[1:] == theirs[1:]


def test_a_whole_answer_is_written_at_once() -> None:
    assert len(answered("POST", head(LENGTH), body(BODY))[0]) == 1


@pytest.mark.parametrize("messages", [(head((b"x-note", b"a\r\nx-b: c"), LENGTH), body(BODY)), (head(LENGTH),)])
def test_no_header_is_smuggled_and_half_an_answer_becomes_an_error(messages: tuple[Message, ...]) -> None:
    written, _, _ = answered("POST", *messages)
    assert b"".join(written).startswith(b"HTTP/1.1 500 ") == (len(messages) == 1)
    assert b"x-b: c" not in b"".join(written)


@pytest.mark.parametrize(("is_whole", "is_connected"), [(True, True), (False, True), (True, False)])
def test_a_body_is_taken_at_once_if_all_of_it_is_there(is_whole: bool, is_connected: bool) -> None:
    found: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        found.extend((arrived_body(scope), arrived_body(scope)))
        found.append(receive.__self__.message_event.is_set())

    async def main() -> None:
        cycle = new_cycle("POST", cast(Any, SimpleNamespace(write=lambda _: None, close=lambda: None)))
        cycle.body, cycle.more_body, cycle.disconnected = bytearray(b"photo"), not is_whole, not is_connected
        cycle.message_event.set()
        await cycle.run_asgi(answering_at_once(app, cycle))

    asyncio.run(main())
    is_taken = is_whole and is_connected
    # The next `receive` then waits until the client hangs up.
    assert found == [b"photo" if is_taken else None, None, not is_taken]
