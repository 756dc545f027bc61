"""Servers that hang: they take requests, keep their connections open, and answer nothing."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

T = TypeVar("T")

_PATIENCE = 1.0  # seconds that a call waits before its server is asked for a sign of life
_ASKED = 3  # times in a row: a server that has too much to do answers late
_ASKED_FOR = 1.0  # seconds each time
_TOO_SHORT = 1.0  # seconds: a call that may take no longer than this shows nothing of its server


class ServerHangs(Exception):
    """The server gave no sign of life while it was to answer a call."""


class CallStuck(Exception):
    """The server lives, and what the call asks for seems not to."""


class Pulse:
    """Watches the calls to one server, so that they do not wait out their deadlines where it hangs.

    `ask(seconds)` asks the server for a sign of life, which may be an error; TimeoutError if none comes in time.
    """

    def __init__(self, ask: Callable[[float], Awaitable[object]]) -> None:
        self._ask = ask
        self._asking: asyncio.Task[bool] | None = None

    async def watch(self, call: Awaitable[T], within: float, is_stuck: Callable[[], bool] = lambda: False) -> T:
        """What `call` returns, which has `within` seconds.

        Cancels `call` and raises ServerHangs if the server hangs, after half of that time at the latest. So does
        CallStuck, if the server lives and `is_stuck` says not to wait for the call. Calls of at most a second are left
        to their deadlines.
        """
        if within <= _TOO_SHORT:
            return await call
        task = asyncio.ensure_future(call)
        patience = min(_PATIENCE, within / 4)
        try:
            while not await _done(task, patience):
                if not await self._is_alive(task, min(_ASKED * _ASKED_FOR, within / 4)):
                    raise ServerHangs
                if not task.done() and is_stuck():
                    raise CallStuck
            return task.result()
        finally:
            task.cancel()

    async def is_alive(self) -> bool:
        """Whether the server gives a sign of life; calls that ask at the same time share one question."""
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
