"""Chunks: the photos found, without those that are done, in groups as large as a request; and the run of all chunks."""

import asyncio
import math
import sqlite3
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serving.bulk.ledger import Ledger
from serving.bulk.rows import Row
from serving.bulk.sources.archives import BROKEN
from serving.bulk.sources.finding import find_photos, named
from serving.bulk.sources.found import Found, FoundPhoto, as_text, unreadable
from serving.bulk.sources.selection import Selection
from serving.bulk.tag_errors import RUN_AGAIN, OutputError

_LOOKED_UP = 64  # photos per look into the journal
_BYTES = 64 * 2**20  # of photos from archives, in memory at once
_AHEAD = 2  # chunks
_GRACE = 10.0  # seconds that a stopped run waits for running requests: a server may not answer
_GLANCE = 0.1  # seconds between looks at whether the run is stopped

Score = Callable[[Sequence[FoundPhoto]], Coroutine[None, None, list[Row]]]


@dataclass
class Chunk:
    """Photos to tag together, rows that are known already, and how many photos, and broken ones, an earlier run did."""

    photos: list[FoundPhoto] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    skipped: int = 0
    skipped_broken: int = 0


def read_chunks(
    paths: Sequence[str],
    ledger: Ledger,
    size: int,
    most_bytes: int,
    is_complete: Callable[[FoundPhoto, Row], bool] = lambda photo, row: True,
    out: str | None = None,
    selection: Selection | None = None,
) -> Iterator[Chunk]:
    """Each photo in `paths` once, in chunks of at most `size` photos and `most_bytes`; a larger photo comes alone.

    Skips what is done by the ledger and by `is_complete`. At the end the ledger forgets the errors of folders and
    archives that could be read this time.
    """
    new: list[FoundPhoto] = []
    unreadable, selection = ledger.unreadable(), selection or Selection()
    for group in _groups(_once(find_photos(paths, out, selection)), ledger, size):
        chunk = Chunk(rows=[found for found in group if isinstance(found, Row)])
        photos = [found for found in group if isinstance(found, FoundPhoto)]
        done = ledger.done(photos)
        for photo in photos:
            row = done.get(photo.path)
            if row and (row.error or is_complete(photo, row)):
                chunk.skipped += 1
                chunk.skipped_broken += row.error is not None
            else:
                new.append(photo)
        for unread in chunk.rows:
            unreadable.pop(unread.path, None)
        if chunk.rows or chunk.skipped:
            yield chunk
        while len(new) >= size or (new and new[-1].file is None):  # photos from archives are in memory
            yield Chunk(_first(new, size, most_bytes))
    while new:
        yield Chunk(_first(new, size, most_bytes))
    if unreadable:
        names = [as_text(name) for name in named(paths, out, selection.uncounted())]
        ledger.forget_unreadable(path for path, error in unreadable.items() if _was_read(path, error, names))


def _was_read(path: str, error: str, names: Sequence[str]) -> bool:
    """Whether a run over `names` reads `path`: it reads archives only if they are named."""
    return path in names or (error == "folder_unreadable" and any(Path(path).is_relative_to(name) for name in names))


def _first(photos: list[FoundPhoto], size: int, most_bytes: int) -> list[FoundPhoto]:
    """The first photos, at least one, which are removed from `photos`."""
    count, held = 1, photos[0].size
    while count < min(size, len(photos)) and held + photos[count].size <= most_bytes:
        held += photos[count].size
        count += 1
    first = photos[:count]
    del photos[:count]
    return first


def _once(every: Iterable[Found]) -> Iterator[Found]:
    """Each path the first time. They are in a temporary file, because there may be more than memory holds."""
    try:
        with closing(sqlite3.connect("", isolation_level=None, check_same_thread=False)) as seen:
            seen.execute("PRAGMA journal_mode = OFF")
            seen.execute("CREATE TABLE seen (path TEXT PRIMARY KEY) WITHOUT ROWID")
            for found in every:
                if seen.execute("INSERT OR IGNORE INTO seen VALUES (?)", (found.path,)).rowcount:
                    yield found
    except sqlite3.Error as error:
        raise OutputError(f"There is no room for temporary files: {error}. {RUN_AGAIN}") from error


def _groups(every: Iterator[Found], ledger: Ledger, size: int) -> Iterator[list[Found]]:
    """Groups of a few; photos from archives with their bytes, unless they are done."""
    group: list[Found] = []
    held = 0
    for found in every:
        if isinstance(found, FoundPhoto) and found.streamed and not ledger.done([found]):
            found = _loaded(found)
            held += found.size if isinstance(found, FoundPhoto) else 0
        group.append(found)
        if len(group) >= (size if held else _LOOKED_UP) or held > _BYTES:
            yield group
            group, held = [], 0
    if group:
        yield group


def _loaded(photo: FoundPhoto) -> Found:
    try:
        return photo.loaded()
    except BROKEN as error:
        return unreadable(photo.path, "archive_broken", f"It cannot be read from its archive: {error}.")


class ChunkRunner:
    """Scores chunks on one event loop and gives the rows to `keep`, in one thread at a time.

    Each stage is bounded, so memory does not depend on how many photos there are: a thread finds photos, two chunks
    ahead; at most `most` chunks are decoded and scored at once; their rows are kept as they come, in one transaction
    for all that are there.
    """

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
    """Draws `chunks` in a thread, a few ahead: a daemon, because a source may wait for input forever."""

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
