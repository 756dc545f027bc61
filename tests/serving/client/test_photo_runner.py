"""Full batches under load, small ones at once otherwise; an error reaches only those who wait for its batch."""

import asyncio
from collections.abc import Sequence

import pytest

from serving.client.photo_runner import Batcher
from serving.errors import ClientClosed

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Server:
    """Doubles numbers once it is open; refuses negative ones."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.open = asyncio.Event()

    async def __call__(self, batch: list[int]) -> Sequence[int]:
        self.batches.append(batch)
        await self.open.wait()
        if min(batch) < 0:
            raise ValueError(batch)
        return [2 * number for number in batch]


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_what_comes_together_leaves_together_and_is_answered_in_order() -> None:
    server = Server()
    server.open.set()
    batcher = Batcher(server, largest=4, in_flight=2)
    assert await asyncio.gather(*map(batcher.submit, range(10))) == [2 * number for number in range(10)]
    assert server.batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


async def test_small_batches_wait_for_more_once_the_server_is_busy() -> None:
    server = Server()
    batcher = Batcher(server, largest=4, in_flight=3)
    calls = []
    for number in range(4):
        calls.append(asyncio.create_task(batcher.submit(number)))
        await settle()
    assert server.batches == [[0], [1]]  # two are under way: 2 and 3 wait for company
    calls += [asyncio.create_task(batcher.submit(number)) for number in (4, 5)]
    await settle()
    assert server.batches[2:] == [[2, 3, 4, 5]]  # a full one may be the third
    calls += [asyncio.create_task(batcher.submit(number)) for number in range(6, 11)]
    await settle()
    assert len(server.batches) == 3  # and there is no fourth
    server.open.set()
    assert await asyncio.gather(*calls) == [2 * number for number in range(11)]


async def test_an_error_is_that_of_its_batch() -> None:
    server = Server()
    server.open.set()
    batcher = Batcher(server, largest=2, in_flight=2)
    answers = await asyncio.gather(*map(batcher.submit, [1, 2, -3, 4, 5]), return_exceptions=True)
    assert answers[:2] == [2, 4]
    assert [type(answer) for answer in answers[2:4]] == [ValueError, ValueError]
    assert answers[4] == 10


async def test_what_is_cancelled_is_not_sent() -> None:
    server = Server()
    batcher = Batcher(server, largest=1, in_flight=1)
    running, cancelled, waiting = [asyncio.create_task(batcher.submit(number)) for number in range(3)]
    await settle()
    cancelled.cancel()
    server.open.set()
    assert (await running, await waiting) == (0, 4)
    assert server.batches == [[0], [2]]


async def test_closing_answers_everybody() -> None:
    server = Server()
    batcher = Batcher(server, largest=1, in_flight=1)
    calls = [asyncio.create_task(batcher.submit(number)) for number in range(3)]
    await settle()
    batcher.cancel()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(answer) for answer in answers] == [ClientClosed] * 3
