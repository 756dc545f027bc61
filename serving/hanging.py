"""Servers that hang: they take requests, keep their connections open, and answer nothing."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from serving.errors import ServerUnavailable

T = TypeVar("T")

_PATIENCE = 1.0  # seconds that a call waits before its server is asked for a sign of life
_ASKED = 3  # times in a row: a server that has too much to do answers late
_ASKED_FOR = 1.0  # seconds each time
_TOO_SHORT = 1.0  # seconds: a call that may take no longer than this says nothing about its server


class ServerHangs(ServerUnavailable):
    """The server gave no sign of life while it had a call to answer."""


class ModelStuck(ServerUnavailable):
    """The server lives, but one of its models answers no request."""


class Pulse:
    """Watches the calls to the server at `url`, so that they do not wait out their deadlines if it hangs.

    `ask(seconds)` asks the server for a sign of life, which may be an error. It raises TimeoutError if none comes.
    """

    def __init__(self, url: str, ask: Callable[[float], Awaitable[object]]) -> None:
        self._url, self._ask = url, ask
        self._asking: asyncio.Task[bool] | None = None
        self._answered_at: dict[str, float] = {}  # by model

    async def watch(
        self, call: Awaitable[T], within: float, model: str = "", patience: float = float("inf"), asks: bool = True
    ) -> T:
        """Returns what `call` returns, which has `within` seconds and needs `model`.

        Cancels the call and raises ServerHangs if the server hangs, after half of that time at the latest; ModelStuck
        if the model has answered no request for `patience` seconds; ServerUnavailable if the connection is closed. Asks
        for signs of life only if it `asks`, and not during calls of at most a second.
        """
        task, sent = asyncio.ensure_future(call), time.monotonic()
        asks = asks and within > _TOO_SHORT
        try:
            while not await _done(task, min(_PATIENCE, within / 4)):
                if asks and not await self._is_alive(task, min(_ASKED * _ASKED_FOR, within / 4)):
                    raise ServerHangs(f"{self._url} does not answer: it hangs, and gives no sign of life.")
                if not task.done() and time.monotonic() - max(sent, self._answered_at.get(model, 0.0)) > patience:
                    raise ModelStuck(f"{model} at {self._url} has answered no request for {patience:.3g} s.")
            if task.cancelled():  # by gRPC, which does not say so otherwise
                raise ServerUnavailable(f"The connection to {self._url} was closed.")
            answer = task.result()
        finally:
            task.cancel()
        self._answered_at[model] = time.monotonic()
        return answer

    async def is_alive(self) -> bool:
        """Whether the server gives a sign of life. Calls that ask at the same time share one question."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._sign())
        return await asyncio.shield(self._asking)

    async def close(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)

    async def _is_alive(self, call: "asyncio.Future[Any]", within: float) -> bool:
        """Whether a sign, or the answer itself, comes `within` seconds."""
        sign = asyncio.ensure_future(self.is_alive())
        try:
            await asyncio.wait({sign, call}, timeout=within, return_when=asyncio.FIRST_COMPLETED)
            return call.done() or (sign.done() and sign.result())
        finally:
            sign.cancel()

    async def _sign(self) -> bool:
        for _ in range(_ASKED):
            try:
                await self._ask(_ASKED_FOR)
            except asyncio.TimeoutError:
                continue
            return True
        return False


async def _done(call: "asyncio.Future[Any]", within: float) -> bool:
    await asyncio.wait({call}, timeout=within)
    return call.done()
