"""In order, bounded, as soon as possible, and nothing left behind."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from serving.client.async_tagger import in_order

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_results_come_in_order_whichever_is_done_first() -> None:
    async def answer(place: int, item: int) -> int:
        await asyncio.sleep(0.02 if item % 3 == 0 else 0)
        return place * 100 + item

    assert [result async for result in in_order(range(10), answer, window=4)] == [101 * n for n in range(10)]
    assert [result async for result in in_order([], answer, window=4)] == []


async def test_no_more_are_under_way_than_the_window_takes() -> None:
    running = most = 0

    async def answer(place: int, item: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1
        return item

    assert [result async for result in in_order(range(30), answer, window=3)] == list(range(30))
    assert most == 3


async def test_a_result_does_not_wait_for_the_next_item() -> None:
    async def answer(place: int, item: int) -> int:
        return item

    async def source() -> AsyncIterator[int]:
        yield 7
        await asyncio.sleep(3600)

    stream = in_order(source(), answer, window=3)
    assert await asyncio.wait_for(anext(stream), 10) == 7
    await stream.aclose()


async def test_a_failure_comes_after_the_results_before_it() -> None:
    async def answer(place: int, item: int) -> int:
        if item == 2:
            raise ValueError(item)
        await asyncio.sleep(0.01)
        return item

    stream = in_order(range(5), answer, window=5)
    assert [await anext(stream), await anext(stream)] == [0, 1]
    with pytest.raises(ValueError, match="2"):
        await anext(stream)


async def test_leaving_early_cancels_what_is_under_way() -> None:
    cancelled = []

    async def answer(place: int, item: int) -> int:
        try:
            await asyncio.sleep(3600 if item else 0.01)
        except asyncio.CancelledError:
            cancelled.append(item)
            raise
        return item

    stream = in_order(range(100), answer, window=3)
    assert await anext(stream) == 0
    await stream.aclose()
    assert cancelled == [1, 2]
