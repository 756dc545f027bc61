"""Shows a run: a bar with rate, errors and time left, or without a terminal a line every few seconds."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from serving.bulk.chunks import Chunk

_LINE_EVERY = 5.0  # seconds
_RATE_OVER = 10.0  # seconds


@dataclass
class Counts:
    """How many photos of this run were tagged, are broken, or were skipped because an earlier run did them."""

    tagged: int = 0
    broken: int = 0
    skipped: int = 0
    skipped_broken: int = 0

    def add(self, chunk: Chunk) -> None:
        broken = sum(row.error is not None for row in chunk.rows)
        self.broken += broken
        self.tagged += len(chunk.rows) - broken
        self.skipped += chunk.skipped
        self.skipped_broken += chunk.skipped_broken

    @property
    def seen(self) -> int:
        return self.tagged + self.broken + self.skipped


class _Console(Console):
    def on_broken_pipe(self) -> None:
        self.quiet = True  # rich would end the process


class RunProgress:
    """Shows the counts on stderr; a context manager. `count` returns how many photos there are, or None.

    A closed terminal does not end the run.
    """

    def __init__(self, count: Callable[[], int | None]) -> None:
        self._console = _Console(stderr=True, soft_wrap=True)
        self._bar = Progress(
            TextColumn("tagging"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[facts]}"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("", total=None, facts="")
        self._total: int | None = None
        self._count = count
        self._line_at = time.monotonic() + _LINE_EVERY
        self._marks = [(time.monotonic(), 0)]

    def __enter__(self) -> "RunProgress":
        with suppress(OSError):
            self._bar.start()
        # In a daemon thread: it looks at every folder, and the run does not wait for it.
        threading.Thread(target=self._learn_total, name="count", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._bar.stop()

    def note(self, words: str) -> None:
        with suppress(OSError):
            self._console.print(words, markup=False, highlight=False)

    def show(self, counts: Counts) -> None:
        now = time.monotonic()
        done = counts.tagged + counts.broken
        self._marks = [mark for mark in self._marks if mark[0] > now - _RATE_OVER] or [self._marks[-1]]
        (since, before), rate = self._marks[0], 0.0
        if now > since:
            rate = (done - before) / (now - since)
        if now - self._marks[-1][0] > 0.5:
            self._marks.append((now, done))
        facts = f"{rate:.0f} images/s  {counts.broken + counts.skipped_broken} errors"
        if counts.skipped:
            facts += f"  {counts.skipped} done before"
        self._bar.update(self._task, completed=counts.seen, total=self._total, facts=facts)
        if self._bar.disable and now >= self._line_at:
            self._line_at = now + _LINE_EVERY
            self.note(f"{counts.seen}/{self._total or '?'}  {facts}{self._time_left(counts.seen, rate)}")

    def _time_left(self, seen: int, rate: float) -> str:
        if not self._total or rate <= 0:
            return ""
        minutes, seconds = divmod(int(max(self._total - seen, 0) / rate), 60)
        return f"  {minutes // 60}:{minutes % 60:02}:{seconds:02} left"

    def _learn_total(self) -> None:
        try:
            self._total = self._count()
        except OSError:  # the run reports it
            return
