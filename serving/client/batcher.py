"""Collects single items into batches: full ones under load, small ones at once without."""

import asyncio
import functools
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from serving.errors import ClientClosed

I = TypeVar("I")  # noqa: E741
R = TypeVar("R")

# Requests under way that keep a server busy: one that runs, one that waits for it.
_BUSY = 2

_CLOSED = "The client was closed during the call."


class Batcher(Generic[I, R]):
    """`send` answers a batch, in its order. At most `in_flight` batches of at most `largest` are under way.

    A full batch leaves as soon as it may. A smaller one leaves only while fewer than two are under way: until then the
    server would be idle if it waited, and after that more items may join it.
    """

    def __init__(self, send: Callable[[list[I]], Awaitable[Sequence[R]]], largest: int, in_flight: int) -> None:
        self._send, self._largest, self._in_flight = send, largest, in_flight
        self._waiting: deque[tuple[I, asyncio.Future[R]]] = deque()
        self._running: set[asyncio.Task[None]] = set()

    async def submit(self, item: I) -> R:
        """Returns the answer for `item`. Raises what `send` raises."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        self._waiting.append((item, future))
        loop.call_soon(self._pump)  # later, so that items submitted one right after the other leave together
        return await future

    def cancel(self) -> None:
        """Ends what is under way: whoever waits for it gets ClientClosed."""
        for task in self._running:
            task.cancel()
        for _, future in self._waiting:
            if not future.done():
                future.set_exception(ClientClosed(_CLOSED))
        self._waiting.clear()

    def _pump(self) -> None:
        while self._waiting and len(self._running) < self._places():
            taken = [self._waiting.popleft() for _ in range(min(self._largest, len(self._waiting)))]
            if batch := [(item, future) for item, future in taken if not future.done()]:  # the others were cancelled
                task = asyncio.create_task(self._run(batch))
                self._running.add(task)
                task.add_done_callback(functools.partial(self._ended, batch))

    def _places(self) -> int:
        return self._in_flight if len(self._waiting) >= self._largest else min(_BUSY, self._in_flight)

    def _ended(self, batch: list[tuple[I, asyncio.Future[R]]], task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        for _, future in batch:
            if not future.done():  # the task was cancelled, perhaps before its first line
                future.set_exception(ClientClosed(_CLOSED))
        self._pump()

    async def _run(self, batch: list[tuple[I, asyncio.Future[R]]]) -> None:
        try:
            answers = await self._send([item for item, _ in batch])
        except Exception as error:
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), answer in zip(batch, answers, strict=True):
            if not future.done():
                future.set_result(answer)
