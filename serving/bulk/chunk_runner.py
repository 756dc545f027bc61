"""The run itself: found, scored and written down, each stage bounded, until all is done or it is stopped.

A thread finds photos, two chunks ahead; at most `most` chunks are being decoded and scored; rows go to the ledger as
they come, in one transaction for all that are there. So memory does not depend on how many photos there are.
"""

import asyncio
import math
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any

from serving.bulk.chunks import Chunk
from serving.bulk.records import Records
from serving.bulk.rows import Row
from serving.bulk.sources.found import FoundPhoto

_AHEAD = 2  # chunks
_GRACE = 10.0  # seconds that what is under way may take when it is stopped: a server may not answer
_GLANCE = 0.1  # seconds

Score = Callable[[Sequence[FoundPhoto]], Coroutine[None, None, list[Row]]]


class Pipeline:
    """Scores chunks on one event loop and hands the rows to `records`."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._stopping = asyncio.Event()
        self._until = math.inf

    def stop(self) -> None:
        """Take up nothing more; what is under way may be finished, unless this is the second time."""
        self._until = time.monotonic() + (0 if self.stopped else _GRACE)
        self._stopping.set()

    @property
    def stopped(self) -> bool:
        return self._stopping.is_set()

    async def run(self, chunks: Iterator[Chunk], score: Score, most: Callable[[], int]) -> None:
        """`score` all `chunks`, `most()` at once, or until `stop`. What fails ends it, after what is done was kept."""
        source = _Ahead(chunks, _AHEAD)
        stopping = asyncio.create_task(self._stopping.wait())
        coming: asyncio.Task[Chunk | None] | None = asyncio.create_task(source.next())
        running: set[asyncio.Task[list[Row]]] = set()
        try:
            while coming or running:
                waited: set[asyncio.Task[Any]] = {*running, *([stopping] if coming else [])}
                if coming and len(running) < most():
                    waited.add(coming)
                done, _ = await asyncio.wait(waited, timeout=self._wait(), return_when=asyncio.FIRST_COMPLETED)
                if not done and time.monotonic() >= self._until:
                    break
                finished = running & done
                running -= finished
                await self._keep(finished)
                if coming and stopping in done:
                    coming.cancel()
                    coming = None
                elif coming and coming in done:
                    chunk = coming.result()
                    coming = asyncio.create_task(source.next()) if chunk else None
                    running |= await self._begin(chunk, score) if chunk else set()
        finally:
            source.stop()
            for task in (*running, stopping, *([coming] if coming else [])):
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    def _wait(self) -> float | None:
        """Seconds; short ones once it stops, so that it is seen when that is asked for again."""
        return _GLANCE if self.stopped else None

    async def _begin(self, chunk: Chunk, score: Score) -> set[asyncio.Task[list[Row]]]:
        self._records.skip(chunk)
        if chunk.rows:
            await asyncio.to_thread(self._records.keep, chunk.rows)
        return {asyncio.create_task(score(chunk.photos))} if chunk.photos else set()

    async def _keep(self, finished: set[asyncio.Task[list[Row]]]) -> None:
        """Only when all rows that are there are kept, what failed is raised."""
        rows = [row for task in finished if not task.exception() for row in task.result()]
        if rows:
            await asyncio.to_thread(self._records.keep, rows)
        for task in finished:
            task.result()


class _Ahead:
    """Draws `chunks` in a thread of its own, a few ahead. It is a daemon: a source may wait for input for ever."""

    def __init__(self, chunks: Iterator[Chunk], ahead: int) -> None:
        self._chunks = chunks
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Queue[Chunk | BaseException | None] = asyncio.Queue()
        self._space = threading.Semaphore(ahead)
        self._stopped = False
        threading.Thread(target=self._draw, name="find", daemon=True).start()

    async def next(self) -> Chunk | None:
        """The next chunk, None after the last; raises what the source raised."""
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
        except BaseException as error:  # the run raises it
            self._tell(error)

    def _tell(self, found: Chunk | BaseException | None) -> None:
        if not self._stopped:
            self._loop.call_soon_threadsafe(self._ready.put_nowait, found)
