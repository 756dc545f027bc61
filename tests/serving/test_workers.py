"""Threads that work for the event loop."""

import asyncio
import gc
import threading
import time
import weakref

import pytest

from serving.workers import Workers, WorkersClosed
from tests.polling import PATIENCE

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Held:
    """Work that has begun and runs until it is released."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()

    def __call__(self) -> str:
        self.begun.set()
        assert self.go_on.wait(PATIENCE)
        return "done"


async def test_results_and_errors_come_back() -> None:
    workers = Workers(2, "test")
    assert await asyncio.gather(*(workers.run(lambda n=n: n * n, 20) for n in range(20))) == [n * n for n in range(20)]
    with pytest.raises(ZeroDivisionError):
        await workers.run(lambda: 1 // 0, 20)
    assert await workers.run(threading.current_thread, 20) is not threading.current_thread()
    await workers.close()


async def test_work_that_waits_too_long_or_is_cancelled_never_begins() -> None:
    workers, held, begun = Workers(1, "test"), Held(), []
    first = asyncio.create_task(workers.run(held, 20))
    await asyncio.to_thread(held.begun.wait, 20)
    with pytest.raises(asyncio.TimeoutError):
        await workers.run(lambda: begun.append("late"), 0.05)
    given_up = asyncio.create_task(workers.run(lambda: begun.append("given up"), 20))
    await asyncio.sleep(0.05)
    given_up.cancel()
    await asyncio.gather(given_up, return_exceptions=True)
    last = asyncio.create_task(workers.run(lambda: begun.append("last"), 20))
    held.go_on.set()
    assert await first == "done"
    await last
    assert begun == ["last"]
    await workers.close()


async def test_a_timeout_does_not_wait_for_running_work() -> None:
    workers, held = Workers(1, "test"), Held()
    with pytest.raises(asyncio.TimeoutError):
        await workers.run(held, 0.05)
    held.go_on.set()
    assert await workers.run(lambda: 1, 20) == 1
    await workers.close()


async def test_close_finishes_running_work_and_refuses_the_rest() -> None:
    workers, held = Workers(1, "test"), Held()
    first = asyncio.create_task(workers.run(held, 20))
    await asyncio.to_thread(held.begun.wait, 20)
    waiting = asyncio.create_task(workers.run(lambda: 1, 20))
    await asyncio.sleep(0.05)
    closing = asyncio.create_task(workers.close())
    await asyncio.sleep(0.05)
    held.go_on.set()
    await closing
    assert await first == "done"
    with pytest.raises(WorkersClosed):
        await waiting
    with pytest.raises(WorkersClosed):
        await workers.run(lambda: 1, 20)
    await workers.close()  # twice does no harm


async def test_the_wait_for_a_thread_is_reported() -> None:
    waits: list[float] = []
    workers, held = Workers(1, "test", waits.append), Held()
    first = asyncio.create_task(workers.run(held, 20))
    await asyncio.to_thread(held.begun.wait, 20)
    second = asyncio.create_task(workers.run(lambda: None, 20))
    await asyncio.sleep(0.2)
    held.go_on.set()
    await asyncio.gather(first, second)
    assert len(waits) == 2
    assert waits[1] >= 0.2
    await workers.close()


async def test_an_idle_thread_holds_no_photo() -> None:
    class Photo:
        pass

    workers, photo = Workers(1, "test"), Photo()
    there = weakref.ref(photo)
    await workers.run(lambda photo=photo: id(photo), 20)
    del photo
    deadline = time.monotonic() + 20
    while there() is not None and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
        gc.collect()
    assert there() is None
    await workers.close()
