"""The server answers before it is ready, and ends if it cannot become ready."""

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest
import uvicorn
from starlette.responses import PlainTextResponse

from labelwise.errors import LabelwiseError
from serving.gateway.worker import AnnouncingServer

pytestmark = pytest.mark.anyio


async def serve(listener: socket.socket, last_step: Callable[[AnnouncingServer], Awaitable[None]]) -> AnnouncingServer:
    config = uvicorn.Config(PlainTextResponse("here"), log_config=None, lifespan="off")
    server = AnnouncingServer(config, lambda: last_step(server), lambda: announced.append(True))
    announced: list[bool] = []
    await asyncio.wait_for(server.serve([listener]), 30)
    assert announced == ([] if server.failure else [True])
    return server


async def test_it_answers_during_the_last_step() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        async def ask(server: AnnouncingServer) -> None:
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
            writer.close()
            server.should_exit = True

        assert (await serve(listener, ask)).failure is None


async def test_it_ends_if_the_last_step_fails() -> None:
    error = LabelwiseError("no decoder starts")

    async def fail(_: AnnouncingServer) -> None:
        raise error

    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert (await serve(listener, fail)).failure is error
