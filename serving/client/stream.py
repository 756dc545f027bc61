"""Results in the order of their items, with a bounded number of them under way."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")


async def in_order(
    items: Iterable[T] | AsyncIterable[T], answer: Callable[[int, T], Awaitable[R]], window: int
) -> AsyncGenerator[R, None]:
    """Yields `answer(place, item)` for each item, in order and as soon as it is there; at most `window` are under way.

    A plain iterable is advanced on the event loop. A failure ends the stream, after the results before it.
    """
    source = each(items)
    coming: asyncio.Future[T] | None = asyncio.ensure_future(source.__anext__())
    pending: deque[asyncio.Future[R]] = deque()
    place = 0
    end: Exception | None = None  # StopAsyncIteration, or why the source failed
    try:
        while coming or pending:
            first = [future for future in (coming, pending[0] if pending else None) if future]
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            while pending and pending[0].done():
                yield pending.popleft().result()
            if coming and coming.done():
                try:
                    pending.append(asyncio.ensure_future(answer(place, coming.result())))
                    place += 1
                except Exception as error:
                    end = error
                coming = None
            if coming is None and end is None and len(pending) < window:
                coming = asyncio.ensure_future(source.__anext__())
        if end and not isinstance(end, StopAsyncIteration):
            raise end
    finally:
        await _cancelled([*pending, *([coming] if coming else [])])


async def each(items: Iterable[T] | AsyncIterable[T]) -> AsyncIterator[T]:
    """Iterates over both kinds alike."""
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item


async def _cancelled(futures: list[asyncio.Future[Any]]) -> None:
    for future in futures:
        future.cancel()
    await asyncio.gather(*futures, return_exceptions=True)
