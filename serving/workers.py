"""Threads that work for the event loop, with one hand-over to the thread and one back.

`run_in_executor` and `wait_for` do the same with four futures, a lock and a task per call. That would be most of the
processor time that the gateway adds to decoding and inference.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")


class WorkersClosed(Exception):
    """The threads or processes have ended."""


class _Job(NamedTuple):
    work: Callable[[], Any]
    answer: "asyncio.Future[Any] | None"  # None: the work answers by itself
    queued: float


class Workers:
    """`threads` threads, started with the first job. Calls `on_wait` with the seconds that each job waited for one.

    `run`, `submit` and `close` are called on one event loop, `on_wait` on the threads.
    """

    def __init__(self, threads: int, name: str, on_wait: Callable[[float], None] | None = None) -> None:
        self._name, self._count = name, threads
        self._on_wait = on_wait
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._threads: list[Thread] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._idle: set[int] = set()  # numbers of the threads that wait for a job
        self._closed = False

    @property
    def idle(self) -> int:
        """How many threads wait for a job. Another thread may change it at any moment."""
        return len(self._idle)

    def submit(self, work: Callable[[], None]) -> None:
        """Queues work that answers its callers itself and raises nothing. Raises WorkersClosed."""
        if self._closed:
            raise WorkersClosed
        if self._loop is None:
            self._start()
        self._jobs.put(_Job(work, None, time.perf_counter()))

    async def run(self, work: Callable[[], T], timeout: float) -> T:
        """Returns or raises what `work` does on a thread. Raises asyncio.TimeoutError after `timeout` seconds.

        Work that has not begun at the timeout, or when the caller is cancelled, does not begin; running work continues.
        """
        if self._closed:
            raise WorkersClosed
        loop = self._loop or self._start()
        answer: asyncio.Future[T] = loop.create_future()
        timer = loop.call_later(timeout, settle, answer, None, asyncio.TimeoutError())
        self._jobs.put(_Job(work, answer, time.perf_counter()))
        try:
            return await answer
        finally:
            timer.cancel()

    async def close(self) -> None:
        """Finishes the work that has begun. Callers that wait for a thread, or come later, get WorkersClosed."""
        self._closed = True
        while not self._jobs.empty():
            if (job := self._jobs.get()) is not None and job.answer is not None:
                settle(job.answer, error=WorkersClosed())
        threads, self._threads = self._threads, []
        for _ in threads:
            self._jobs.put(None)
        for thread in threads:
            await asyncio.to_thread(thread.join)

    def _start(self) -> asyncio.AbstractEventLoop:
        self._loop = asyncio.get_running_loop()
        for number in range(self._count):
            # Daemons: a process that must end at once does not wait for a picture.
            thread = Thread(target=self._work, args=(self._loop, number), name=f"{self._name}-{number}", daemon=True)
            thread.start()
            self._threads.append(thread)
        return self._loop

    def _work(self, loop: asyncio.AbstractEventLoop, number: int) -> None:
        while (job := self._next(number)) is not None:
            if job.answer is None:
                job.work()
            elif not job.answer.done():
                self._do(job.work, job.answer, job.queued, loop)
            del job  # an idle thread holds no photo

    def _next(self, number: int) -> _Job | None:
        self._idle.add(number)
        try:
            return self._jobs.get()
        finally:
            self._idle.discard(number)

    def _do(
        self,
        work: Callable[[], Any],
        answer: "asyncio.Future[Any]",
        queued: float,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        if self._on_wait is not None:
            self._on_wait(time.perf_counter() - queued)
        result, error = None, None
        try:
            result = work()
        except BaseException as raised:
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop is closed, so the result is not needed
            loop.call_soon_threadsafe(settle, answer, result, error)


def settle(answer: "asyncio.Future[Any]", result: Any = None, error: BaseException | None = None) -> None:
    """Answers with `result` or `error`, unless the answer is known or the caller was cancelled."""
    if answer.done():
        return
    if error is None:
        answer.set_result(result)
    else:
        answer.set_exception(error)
