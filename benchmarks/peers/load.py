"""Clients that send one photo after another, each over its own connection, and what they see."""

import asyncio
import contextlib
import itertools
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import grpc

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
_CLOSES = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
_REFUSALS = (429, 503)


class Connection(Protocol):
    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Returns the status and the answer. The status is 0 if there is none."""
        ...

    async def close(self) -> None: ...


class HttpConnection:
    """HTTP/1.1 with keep-alive. A request is the bytes that are sent. Reads little of the answer, to cost little."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        try:
            return await self._ask(request)
        except (OSError, EOFError, ValueError):
            await self.close()
            return 0, b""

    async def _ask(self, request: bytes) -> tuple[int, bytes]:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        if _CHUNKED.search(head):
            body = b""
            while size := int(await reader.readline(), 16):
                body += (await reader.readexactly(size + 2))[:-2]
            await reader.readline()
        else:
            length = _LENGTH.search(head)
            body = await (reader.readexactly(int(length[1])) if length else reader.read())
        if _CLOSES.search(head):
            await self.close()
        return int(head[9:12]), body

    async def close(self) -> None:
        streams, self._streams = self._streams, None
        if streams is not None:
            streams[1].transport.abort()  # a request that a hung server does not read must not hold this up
            with contextlib.suppress(OSError):
                await streams[1].wait_closed()


class GrpcConnection:
    """A channel of its own to a Triton. A request is a serialized ModelInferRequest."""

    def __init__(self, port: int) -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]
        self._channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}", options)
        self._call = self._channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        try:
            return 200, await self._call(request)
        except grpc.aio.AioRpcError as error:
            refused = error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
            return 503 if refused else 0, str(error.details()).encode()

    async def close(self) -> None:
        await self._channel.close()


@dataclass
class Window:
    """What happened in `seconds`: latencies of the 200s in seconds, and the number of other answers.

    `seconds` run from the last 200 before the window to the last one in it. So it does not matter where the window cuts
    through a server's batches, which are answered all at once. `waiting` are the ages of requests that at the end have
    waited longer than any 200 took. Without them, a server that forgets some clients would look quick.
    """

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    waiting: list[float] = field(default_factory=list)
    refused: int = 0
    failed: int = 0

    @property
    def rate(self) -> float:
        return len(self.latencies) / self.seconds

    @property
    def refused_share(self) -> float:
        return self.refused / max(1, self.refused + self.failed + len(self.latencies))


class Load:
    """Clients that send the `requests` in turn and resend at once, whatever the answer. Their number only grows."""

    def __init__(self, connect: Callable[[], Connection], requests: list[bytes]) -> None:
        self._connect, self._requests = connect, requests
        self._clients: list[asyncio.Task[None]] = []
        self._connections: list[Connection] = []
        self._window = Window()  # where clients note what they see
        self._last_answer = time.perf_counter()
        self._sent_at: dict[int, float] = {}  # when each client sent what it waits for
        self._answered: set[int] = set()  # clients with a 200 since the last growth
        self._all_answered = asyncio.Event()

    async def grow(self, clients: int, most_seconds: float) -> None:
        """Grows to so many clients, and waits until each has had a 200, so that all queues are as long as they get.

        A server that refuses, or is slow, is not waited for longer than `most_seconds`.
        """
        for number in range(len(self._clients), clients):
            self._connections.append(self._connect())
            self._clients.append(asyncio.create_task(self._client(number, self._connections[-1])))
        self._answered.clear()
        self._all_answered.clear()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._all_answered.wait(), most_seconds)

    async def measure(self, seconds: float) -> Window:
        self._window = window = Window()
        answered, started = self._last_answer, time.perf_counter()
        await asyncio.sleep(seconds)
        self._window = Window()
        now = time.perf_counter()
        between = self._last_answer - answered
        window.seconds = between if between > seconds / 2 else now - started  # few answers say little about their pace
        ages = [now - since for since in self._sent_at.values()]
        window.waiting = [age for age in ages if age > max(window.latencies, default=0.0)]
        return window

    async def stop(self) -> None:
        for client in self._clients:
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        for connection in self._connections:
            with contextlib.suppress(OSError):
                await connection.close()

    async def _client(self, number: int, connection: Connection) -> None:
        for request in itertools.islice(itertools.cycle(self._requests), number, None):
            self._sent_at[number] = started = time.perf_counter()
            status, _ = await connection.ask(request)
            if status == 200:
                self._last_answer = time.perf_counter()
                self._window.latencies.append(self._last_answer - started)
                self._answered.add(number)
                if len(self._answered) == len(self._clients):
                    self._all_answered.set()
            elif status in _REFUSALS:
                self._window.refused += 1
            else:
                self._window.failed += 1
                await asyncio.sleep(0.01)  # a server that has died must not keep this process busy
