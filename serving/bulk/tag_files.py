"""`labelwise tag`: photos from anywhere, tagged by any engine, into one output; nothing is done twice."""

import asyncio
import functools
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

from labelwise.errors import LabelwiseError
from labelwise.image import SUFFIXES
from serving.bulk.chunks import Chunk, ChunkRunner, read_chunks
from serving.bulk.kept_embeddings import is_embedded
from serving.bulk.ledger import Ledger
from serving.bulk.output import Output
from serving.bulk.rows import Row
from serving.bulk.run_progress import Counts, RunProgress
from serving.bulk.sources.finding import STDIN, check_sources, count_photos
from serving.bulk.sources.found import FoundPhoto
from serving.bulk.sources.selection import LeftOut, Selection
from serving.bulk.tag_options import REQUEST_BYTES, TagOptions, check_options
from serving.client.transport import Transport
from serving.errors import ServerTimeout, ServerUnavailable

_PUBLISH_EVERY = 2.0  # seconds
_PUBLISH_SHARE = 50  # after a publication of one second, this many seconds pass without one


@dataclass(frozen=True)
class Summary:
    """What a run did, and what the output contains now."""

    out: str
    counts: Counts
    seconds: float
    rows: int
    stopped: bool
    left_out: LeftOut

    @property
    def broken(self) -> int:
        """Photos of this run that have an error, from now or from an earlier run."""
        return self.counts.broken + self.counts.skipped_broken

    def __str__(self) -> str:
        counts, rate = self.counts, (self.counts.tagged + self.counts.broken) / max(self.seconds, 1e-9)
        words = (
            f"Tagged {counts.tagged:,} photo{'s' * (counts.tagged != 1)} in {self.seconds:.1f} s ({rate:.0f} a second)"
        )
        words += f"; {counts.skipped:,} unchanged" if counts.skipped else ""
        words += f"; {self.broken:,} with an error (column `error`)" if self.broken else ""
        end = "Stopped: run the same command again to continue." if self.stopped else ""
        return " ".join(filter(None, (f"{words}.", str(self.left_out), f"{self.out} has {self.rows:,} rows.", end)))


def tag_files(paths: Sequence[str], options: TagOptions) -> Summary:
    """Tag all photos of `paths`. Raises UsageError before it does anything, and LabelwiseError."""
    check_sources(paths, sidecars=options.sidecars is not None)
    output = Output(options.out, options.every_score, options.embeddings)
    options = replace(options, embeddings=output.keeps_embeddings)
    check_options(options)
    summary = asyncio.run(_tag(paths, options, output))
    if not summary.counts.seen and not summary.stopped and set(paths) != {STDIN}:
        detail = f"There is no photo in {', '.join(paths)}: names end in {', '.join(SUFFIXES)}. {summary.left_out}"
        raise LabelwiseError(detail.rstrip())
    return summary


async def _tag(paths: Sequence[str], options: TagOptions, output: Output) -> Summary:
    transport = options.transport()
    try:
        await _connect(transport, options.patience)
        ledger = output.open(transport.spec, options.force)
        try:
            return await _TaggingRun(paths, options, output, ledger, transport).to_its_end()
        finally:
            ledger.close()
    finally:
        await transport.close()


async def _connect(transport: Transport, patience: float) -> None:
    """Connect, and wait for the first answer for as long as for later ones."""
    until, is_told = time.monotonic() + patience, False
    while True:
        try:
            return await transport.connect()
        except (ServerUnavailable, ServerTimeout) as error:
            if time.monotonic() >= until:
                raise
            if not is_told:
                print(f"{error} Waiting for an answer, at most {patience:.0f} s.", file=sys.stderr)
            is_told = True


class _TaggingRun:
    """One run, with everything open that it needs."""

    def __init__(
        self, paths: Sequence[str], options: TagOptions, output: Output, ledger: Ledger, transport: Transport
    ) -> None:
        self._paths, self._options, self._output, self._ledger = paths, options, output, ledger
        self._transport, self._spec = transport, transport.spec
        self._selection = Selection(options.hidden, options.exclude)
        self._progress = RunProgress(functools.partial(count_photos, paths, options.out, self._selection))
        self._counts = Counts()
        self._publish_at = time.monotonic() + _PUBLISH_EVERY

    async def to_its_end(self) -> Summary:
        """Whatever ends the run, all that was tagged is in the output. The journal goes if nothing is left to do."""
        started = time.monotonic()
        runner = ChunkRunner(self._keep)
        with self._progress:
            try:
                with _signals(runner, self._progress):
                    await self._score_all(runner)
            finally:
                self._publish()
                self._output.publish_embeddings(self._ledger, self._spec)
        rows = self._ledger.count()
        if not runner.stopped:
            self._ledger.delete()
        seconds = time.monotonic() - started
        return Summary(self._options.out, self._counts, seconds, rows, runner.stopped, self._selection.left_out)

    async def _score_all(self, runner: ChunkRunner) -> None:
        options, size = self._options, self._options.chunk_size(self._spec)
        if options.ray:
            from serving.bulk.on_ray import REQUESTS_A_CHUNK, score_on_ray

            if options.servers is None and self._spec.graph:  # machines of other kinds might choose another
                options = replace(options, precision=self._spec.graph.precision)
            chunks = self._chunks(size * REQUESTS_A_CHUNK)
            await asyncio.to_thread(score_on_ray, chunks, options, size, self._keep, lambda: runner.stopped)
            return
        scorer, most = options.scorer(self._transport, self._progress.note)
        try:
            await runner.run(self._chunks(size), scorer.score, most)
        finally:
            scorer.close()

    def _chunks(self, size: int) -> Iterator[Chunk]:
        out = self._options.out
        return read_chunks(self._paths, self._ledger, size, REQUEST_BYTES, self._is_complete, out, self._selection)

    def _is_complete(self, photo: FoundPhoto, row: Row) -> bool:
        if self._output.keeps_embeddings and not is_embedded(row, self._ledger, self._spec):
            return False
        sidecars = self._options.sidecars
        return sidecars is None or sidecars.done(photo, row, self._spec)

    def _keep(self, chunk: Chunk) -> None:
        """Put the chunk's rows into the journal, where they are safe, and at times all into the output."""
        if chunk.rows:
            self._ledger.put(chunk.rows)
        self._counts.add(chunk)
        self._progress.show(self._counts)
        started = time.monotonic()
        if started >= self._publish_at:
            self._publish()
            ended = time.monotonic()
            self._publish_at = ended + max(_PUBLISH_EVERY, _PUBLISH_SHARE * (ended - started))

    def _publish(self) -> None:
        self._output.publish(self._ledger, self._spec)


@contextmanager
def _signals(runner: ChunkRunner, progress: RunProgress) -> Iterator[None]:
    """Stop at Ctrl-C, SIGTERM or a closed terminal, once running requests have ended; at the second signal, at once.

    A signal that the run was told to ignore, by nohup or by a shell that put it into the background, stays ignored.
    """
    loop = asyncio.get_running_loop()
    named = (getattr(signal, name, None) for name in ("SIGINT", "SIGTERM", "SIGHUP"))
    numbers = [number for number in named if number and signal.getsignal(number) is not signal.SIG_IGN]

    def stop() -> None:
        if not runner.stopped:
            progress.note("Stopping after the photos in progress. Press Ctrl-C again to stop at once.")
        runner.stop()

    with suppress(NotImplementedError, RuntimeError, ValueError):  # Windows, or not the main thread
        for number in numbers:
            loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        with suppress(NotImplementedError, RuntimeError, ValueError):
            for number in numbers:
                loop.remove_signal_handler(number)
