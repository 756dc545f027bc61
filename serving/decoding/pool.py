"""As many decoder processes as are needed, replaced when they end. Each photo has an answer in time."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelwise.errors import LabelwiseError
from serving.decoding.decoder_process import DecodeJob, DecoderEnded, DecoderProcess
from serving.decoding.messages import Limits
from serving.decoding.pixel_budget import PixelBudget
from serving.processes import Backoff
from serving.workers import WorkersClosed, settle

logger = logging.getLogger("labelwise.decoder")

PoolAnswer = tuple[dict[str, Any], NDArray[np.uint8]]

_GRACE = 1.0  # seconds for a photo that no request waits for: a new process costs more than most photos
_AT_ONCE = 1_000_000  # pixels that a photo may hold without asking, enough for most photos


class DecoderPool:
    """At most `count` processes, which hold what `budget` allows. Calls `on_wait` with the seconds that a photo waited.

    One process starts at once, others when photos wait. A process ends if its photo costs more than `limits`, or is not
    done `grace` seconds after the last request stopped waiting. Used on one event loop.
    """

    def __init__(
        self,
        count: int,
        budget: PixelBudget,
        on_wait: Callable[[float], None] | None = None,
        limits: Limits | None = None,
        grace: float = _GRACE,
    ) -> None:
        self._count, self._on_wait, self._grace = count, on_wait, grace
        self._limits = asdict(limits or Limits())
        self._budget = budget
        self._idle: list[DecoderProcess] = []
        self._queue: deque[DecodeJob] = deque()
        self._keepers: list[asyncio.Task[None]] = []
        self._closed = False
        self.processes: set[DecoderProcess] = set()

    def launch(self) -> None:
        """Starts the first process, which takes a moment. Without this, the first photo starts it."""
        process = self._new_process()
        self._keepers.append(asyncio.create_task(self._keep(process)))

    async def started(self) -> None:
        """Waits until the first process works. Raises LabelwiseError if it cannot start."""
        try:
            await asyncio.gather(*(process.ready for process in self.processes))
        except DecoderEnded as error:
            raise LabelwiseError(f"A decoder process ended at its start (status {error.status}).") from error

    async def run(self, task: str, data: bytes, arguments: dict[str, Any], timeout: float) -> PoolAnswer:
        """Returns the facts about the photo, and its pixels.

        Raises ImageError, DecoderEnded, WorkersClosed, or asyncio.TimeoutError after `timeout` seconds.
        """
        if self._closed:
            raise WorkersClosed
        loop = asyncio.get_running_loop()
        said = {"task": task, "arguments": arguments, "limits": self._limits}
        job = DecodeJob(said, data, _AT_ONCE, loop.create_future(), time.perf_counter())
        timer = loop.call_later(timeout, settle, job.answer, None, asyncio.TimeoutError())
        self._queue.append(job)
        self._dispatch()
        try:
            return await job.answer
        finally:
            timer.cancel()
            if job.process is not None and job.process.job is job:
                job.process.give_up(self._grace)

    async def close(self) -> None:
        """Ends all processes. Callers that wait get WorkersClosed."""
        self._closed = True
        for keeper in self._keepers:
            keeper.cancel()
        jobs = [*self._queue, *(process.job for process in self.processes if process.job is not None)]
        for job in jobs:
            settle(job.answer, error=WorkersClosed())
        processes = list(self.processes)
        for process in processes:
            process.kill()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        await asyncio.gather(*(process.ended.wait() for process in processes))

    def _new_process(self) -> DecoderProcess:
        process = DecoderProcess(self._budget, self._offer)
        self.processes.add(process)
        return process

    async def _keep(self, process: DecoderProcess) -> None:
        """Offers the process, and a new one whenever it has ended."""
        backoff = Backoff()
        while True:
            delay = 0.0
            try:
                await process.ready
                backoff = Backoff()
                self._offer(process)
                await process.ended.wait()
            except DecoderEnded as error:
                delay = backoff.after(0)
                logger.error("%s at its start; another starts in %g s", error, delay)
            finally:
                self.processes.discard(process)
                if process in self._idle:
                    self._idle.remove(process)
            await asyncio.sleep(delay)
            process = self._new_process()

    def _offer(self, process: DecoderProcess) -> None:
        self._idle.append(process)
        self._dispatch()

    def _dispatch(self) -> None:
        while self._idle and self._queue:
            job = self._queue.popleft()
            if not job.answer.done():
                if self._on_wait is not None:
                    self._on_wait(time.perf_counter() - job.queued)
                self._idle.pop().begin(job)
        is_starting = any(not process.ready.done() for process in self.processes)
        if self._queue and not is_starting and len(self._keepers) < self._count:
            self.launch()
