"""Continuous batching: what waits while the threads are busy is run together, and nothing waits for a batch to fill."""

import asyncio
import contextlib
import functools
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock

import numpy as np

from serving.inference import Outputs, Pixels
from serving.workers import Workers, WorkersClosed, settle

Run = Callable[[Pixels, Sequence[str]], Outputs]  # blocks

_TRIES = 5  # runs of a batch size by which it is judged
_WORTH = 0.97  # of a smaller batch's time per photo: what a larger one has to reach, because all of it waits for all


class BatchSize:
    """Finds from the runs themselves how many photos at once take the least time per photo on this machine.

    It tries 1, 2, 4, … up to `most`, each when so many photos wait for the first time. Used by one thread at a time.
    """

    def __init__(self, most: int) -> None:
        self._best: dict[int, float] = {2**power: math.inf for power in range(most.bit_length())}  # seconds per photo
        self._tries = dict.fromkeys(self._best, 0)

    def choose(self, waiting: int) -> int:
        """How many of the `waiting` photos, at least one, to run at once."""
        possible = [size for size in self._best if size <= max(1, waiting)]
        untried = [size for size in possible if self._tries[size] < _TRIES]
        if untried:
            return untried[0]
        chosen = possible[0]
        for size in possible[1:]:
            if self._best[size] < self._best[chosen] * _WORTH:
                chosen = size
        return chosen

    def ran(self, images: int, seconds: float) -> None:
        """Notes a run. The least time counts, because other work on the machine only adds to it.

        Later runs do not count: sizes that are run often would have ever lower times.
        """
        if self._tries.get(images, _TRIES) < _TRIES:
            self._tries[images] += 1
            self._best[images] = min(self._best[images], seconds / images)


@dataclass(eq=False, slots=True)
class _Waiting:
    pixels: Pixels
    outputs: Sequence[str]
    answer: "asyncio.Future[Outputs]"
    queued: float
    had_turn: bool = False
    is_taken: bool = False


class Batches:
    """The requests that wait for one graph. A thread that becomes free takes as many as are worth running together.

    Other graphs share the threads: each request queues one turn, and turns are in the order of the requests. A turn may
    run later requests, too; their own turns then do nothing. But threads may come in another order than their turns: a
    turn that ran older requests in place of its own leaves its own to one of their turns.

    `on_wait` gets the seconds that a request waited for its run, and `on_run` the number of photos of a run, both on
    the threads. `clock` measures runs.
    """

    def __init__(
        self,
        run: Run,
        workers: Workers,
        most: int,
        *,
        on_wait: Callable[[float], None] | None = None,
        on_run: Callable[[int], None] | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._run, self._workers, self._size = run, workers, BatchSize(most)
        self._on_wait, self._on_run, self._clock = on_wait, on_run, clock
        self._waiting: deque[_Waiting] = deque()
        self._left = 0  # of those that wait: how many had their turn
        self.images = 0  # that wait or run
        self._lock = Lock()  # of what waits and of the batch size

    async def infer(self, pixels: Pixels, outputs: Sequence[str], timeout: float) -> Outputs:
        """The outputs for pixels [b, h, w, 3]. Raises what the run raises, asyncio.TimeoutError and WorkersClosed.

        A request that has timed out, or whose caller was cancelled, is not run.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Outputs] = loop.create_future()
        timer = loop.call_later(timeout, settle, answer, None, asyncio.TimeoutError())
        self.images += len(pixels)
        try:
            one = _Waiting(pixels, outputs, answer, time.perf_counter())
            self._waiting.append(one)
            self._workers.submit(functools.partial(self._turn, one))
            return await answer
        finally:
            self.images -= len(pixels)
            timer.cancel()

    def close(self) -> None:
        """Whoever still waits gets WorkersClosed. Called on the event loop."""
        with self._lock:
            while self._waiting:
                settle(self._waiting.popleft().answer, error=WorkersClosed())

    def _turn(self, one: _Waiting) -> None:
        batch = self._take(one)
        if not batch:
            return
        if self._on_wait is not None:
            now = time.perf_counter()
            for one in batch:
                self._on_wait(now - one.queued)
        results = self._results(batch)
        with contextlib.suppress(RuntimeError):  # the loop is closed, so the results are not needed
            batch[0].answer.get_loop().call_soon_threadsafe(_settle_all, batch, results)

    def _take(self, own: _Waiting) -> list[_Waiting]:
        """Takes what waits, the oldest first, in the turn of `own`: a share, because each idle thread gets one, too."""
        taken: list[_Waiting] = []
        with self._lock:
            if own.is_taken and not self._left:
                return taken
            share = -(-len(self._waiting) // (1 + self._workers.idle))
            limit, images = self._size.choose(share), 0
            while self._waiting and images < limit:
                one = self._waiting[0]
                if not one.answer.done():
                    images += len(one.pixels)
                    if taken and images > limit:
                        break
                    taken.append(one)
                one.is_taken = True
                self._left -= one.had_turn
                self._waiting.popleft()
            own.had_turn = True
            self._left += not own.is_taken
        return taken

    def _results(self, batch: Sequence[_Waiting]) -> list[Outputs | BaseException]:
        """Of each request. If a batch fails, each is run alone, so that one fails for no other."""
        try:
            return list(self._together(batch))
        except BaseException as error:
            return [error] if len(batch) == 1 else [self._results([one])[0] for one in batch]

    def _together(self, batch: Sequence[_Waiting]) -> list[Outputs]:
        images = [len(one.pixels) for one in batch]
        pixels = batch[0].pixels if len(batch) == 1 else np.concatenate([one.pixels for one in batch])
        outputs = tuple(dict.fromkeys(name for one in batch for name in one.outputs))
        started = self._clock()
        answer = self._run(pixels, outputs)
        with self._lock:
            self._size.ran(len(pixels), self._clock() - started)
        if self._on_run is not None:
            self._on_run(len(pixels))
        if len(batch) == 1:
            return [answer]
        ends = np.cumsum(images)[:-1]
        parts = {name: np.split(answer[name], ends) for name in outputs}  # b … -> of each request
        return [{name: parts[name][place] for name in one.outputs} for place, one in enumerate(batch)]


def _settle_all(batch: Sequence[_Waiting], results: Sequence[Outputs | BaseException]) -> None:
    for one, result in zip(batch, results, strict=True):
        if isinstance(result, BaseException):
            settle(one.answer, error=result)
        else:
            settle(one.answer, result)
