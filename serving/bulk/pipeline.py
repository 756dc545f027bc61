"""The run itself: found, scored and written down, each stage bounded, until all is done or it is stopped.

A thread finds photos, two chunks ahead; at most `most` chunks are being decoded and scored; rows go to the ledger as
they come, in one transaction for all that are there. So memory does not depend on how many photos there are.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass

from serving.bulk.chunks import Chunk
from serving.bulk.ledger import Ledger
from serving.bulk.rows import Row

_AHEAD = 2  # chunks
_PUBLISH_EVERY = 2.0  # seconds
_PUBLISH_SHARE = 50  # times as long as publishing took


@dataclass
class Counts:
    """Photos of this run."""

    tagged: int = 0
    broken: int = 0
    skipped: int = 0
    skipped_broken: int = 0

    def add(self, rows: Sequence[Row]) -> None:
        broken = sum(row.error is not None for row in rows)
        self.broken += broken
        self.tagged += len(rows) - broken

    @property
    def seen(self) -> int:
        return self.tagged + self.broken + self.skipped


class Pipeline:
    """`score` makes rows of a chunk, `most()` chunks at once; `publish` brings the output up to the ledger."""

    def __init__(
        self,
        ledger: Ledger,
        score: Callable[[Chunk], Coroutine[None, None, list[Row]]],
        publish: Callable[[], None],
        show: Callable[[Counts], None],
        most: Callable[[], int],
    ) -> None:
        self.counts = Counts()
        self._ledger, self._score, self._publish, self._show, self._most = ledger, score, publish, show, most
        self._stopping = asyncio.Event()
        self._publish_at = time.monotonic() + _PUBLISH_EVERY

    def stop(self) -> None:
        """Take up nothing more; what is under way is finished."""
        self._stopping.set()

    @property
    def stopped(self) -> bool:
        return self._stopping.is_set()

    async def run(self, chunks: Iterator[Chunk]) -> None:
        """Until `chunks` are done or `stop` is called. What fails ends it, after what was scored is in the ledger."""
        source = _Ahead(chunks, _AHEAD)
        stopping = asyncio.create_task(self._stopping.wait())
        coming: asyncio.Task[Chunk | None] | None = asyncio.create_task(source.next())
        running: set[asyncio.Task[list[Row]]] = set()
        try:
            while coming or running:
                full = len(running) >= self._most()
                waited = running | ({coming} if coming and not full else set()) | ({stopping} if coming else set())
                done, _ = await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
                finished = running & done
                running -= finished
                await self._keep(finished)
                if stopping in done and coming:
                    coming.cancel()
                    coming = None
                elif coming in done and coming:
                    chunk = coming.result()
                    coming = asyncio.create_task(source.next()) if chunk else None
                    if chunk:
                        self._count_skipped(chunk)
                        running.add(asyncio.create_task(self._score(chunk)))
        finally:
            source.stop()
            for task in (*running, stopping, *([coming] if coming else [])):
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _keep(self, finished: set[asyncio.Task[list[Row]]]) -> None:
        """Rows into the ledger, and from time to time all into the output; only then what failed is raised."""
        rows = [row for task in finished if not task.exception() for row in task.result()]
        if rows:
            await asyncio.to_thread(self._ledger.put, rows)
            self.counts.add(rows)
            self._show(self.counts)
        for task in finished:
            task.result()
        started = time.monotonic()
        if started >= self._publish_at:
            await asyncio.to_thread(self._publish)
            ended = time.monotonic()
            self._publish_at = ended + max(_PUBLISH_EVERY, _PUBLISH_SHARE * (ended - started))

    def _count_skipped(self, chunk: Chunk) -> None:
        self.counts.skipped += chunk.skipped
        self.counts.skipped_broken += chunk.skipped_broken
        self._show(self.counts)


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
