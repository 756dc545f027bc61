"""Runs a tagging run's chunks: found, scored and kept, each stage bounded, until all are done or the run is stopped.

A thread finds photos, two chunks ahead; at most `most` chunks are decoded and scored at once; their rows are kept as
they come, in one transaction for all that are there. So memory does not depend on how many photos there are.
"""

import asyncio
import math
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any

from serving.bulk.chunks import Chunk
from serving.bulk.rows import Row
from serving.bulk.sources.found import FoundPhoto

_AHEAD = 2  # chunks
_GRACE = 10.0  # seconds that a stopped run gives to what is under way: a server may not answer
_GLANCE = 0.1  # seconds between looks at whether the run is stopped

Score = Callable[[Sequence[FoundPhoto]], Coroutine[None, None, list[Row]]]


class ChunkRunner:
    """Scores chunks on one event loop and gives the rows to `keep`, in one thread at a time."""

    def __init__(self, keep: Callable[[Chunk], None]) -> None:
        self._keep = keep
        self._until = math.inf

    def stop(self) -> None:
        """Begin no more chunks. What is under way may still end, unless this is the second call."""
        self._until = time.monotonic() + (0 if self.stopped else _GRACE)

    @property
    def stopped(self) -> bool:
        return self._until < math.inf

    async def run(self, chunks: Iterator[Chunk], score: Score, most: Callable[[], int]) -> None:
        """`score` all `chunks`, at most `most()` at once. If one fails, keeps the rows of the others and raises."""
        ahead = _Ahead(chunks, _AHEAD)
        coming: asyncio.Task[Chunk | None] | None = asyncio.create_task(ahead.next())
        running: set[asyncio.Task[Any]] = set()
        try:
            while (running or (coming and not self.stopped)) and time.monotonic() < self._until:
                begins = coming if coming and not self.stopped and len(running) < most() else None
                waited = {*running, *([begins] if begins else [])}
                done, _ = await asyncio.wait(waited, timeout=_GLANCE, return_when=asyncio.FIRST_COMPLETED)
                finished = running & done
                running -= finished
                await self._keep_rows(finished)
                if begins and begins in done:
                    chunk = begins.result()
                    coming = asyncio.create_task(ahead.next()) if chunk else None
                    running |= await self._begin(chunk, score) if chunk else set()
        finally:
            ahead.stop()
            for task in (*running, *([coming] if coming else [])):
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _begin(self, chunk: Chunk, score: Score) -> set[asyncio.Task[list[Row]]]:
        if chunk.rows or chunk.skipped:
            await asyncio.to_thread(self._keep, chunk)
        return {asyncio.create_task(score(chunk.photos))} if chunk.photos else set()

    async def _keep_rows(self, finished: set[asyncio.Task[list[Row]]]) -> None:
        rows = [row for task in finished if not task.exception() for row in task.result()]
        if rows:
            await asyncio.to_thread(self._keep, Chunk(rows=rows))
        for task in finished:
            task.result()


class _Ahead:
    """Draws `chunks` in a thread, a few ahead: a daemon, because a source may wait for input for ever."""

    def __init__(self, chunks: Iterator[Chunk], ahead: int) -> None:
        self._chunks = chunks
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Queue[Chunk | BaseException | None] = asyncio.Queue()
        self._space = threading.Semaphore(ahead)
        self._stopped = False
        threading.Thread(target=self._draw, name="find", daemon=True).start()

    async def next(self) -> Chunk | None:
        """The next chunk, None after the last. Raises what the source raises."""
        found = await self._ready.get()
        self._space.release()
        if isinstance(found, BaseException):
            raise found
        return found

    def stop(self) -> None:
        self._stopped = True
        self._space.release()

    def _draw(self) -> None:
        try:
            for chunk in self._chunks:
                self._space.acquire()
                if self._stopped:
                    return
                self._tell(chunk)
            self._tell(None)
        except BaseException as error:  # `next` raises it
            self._tell(error)

    def _tell(self, found: Chunk | BaseException | None) -> None:
        if not self._stopped:
            self._loop.call_soon_threadsafe(self._ready.put_nowait, found)
