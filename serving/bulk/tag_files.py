"""`labelwise tag`: photos from anywhere, tagged by any engine, into one output; nothing is done twice."""

import asyncio
import functools
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from labelwise.errors import LabelwiseError
from labelwise.image import SUFFIXES
from serving.bulk.chunk_runner import Pipeline
from serving.bulk.chunks import read_chunks
from serving.bulk.ledger import Ledger
from serving.bulk.output import Output
from serving.bulk.records import Counts, Records
from serving.bulk.rows import Row
from serving.bulk.run_progress import Progress
from serving.bulk.sources.finding import STDIN, check_sources, count_photos
from serving.bulk.sources.found import FoundPhoto
from serving.bulk.sources.selection import LeftOut, Selection
from serving.bulk.tag_errors import UsageError
from serving.bulk.tag_options import REQUEST_BYTES, TagOptions
from serving.client.errors import ServerTimeout, ServerUnavailable
from serving.client.transport import Transport


@dataclass(frozen=True)
class Summary:
    """What a run did, and what is in the output now."""

    out: str
    counts: Counts
    seconds: float
    rows: int
    stopped: bool
    left_out: LeftOut

    @property
    def broken(self) -> int:
        """Photos of this run that have an error, were they read now or before."""
        return self.counts.broken + self.counts.skipped_broken

    def __str__(self) -> str:
        counts, rate = self.counts, (self.counts.tagged + self.counts.broken) / max(self.seconds, 1e-9)
        words = (
            f"Tagged {counts.tagged:,} photo{'s' * (counts.tagged != 1)} in {self.seconds:.1f} s ({rate:.0f} a second)"
        )
        words += f"; {counts.skipped:,} unchanged" if counts.skipped else ""
        words += f"; {self.broken:,} with an error (column `error`)" if self.broken else ""
        end = "Stopped: the same command goes on." if self.stopped else ""
        return " ".join(filter(None, (f"{words}.", str(self.left_out), f"{self.out} has {self.rows:,} rows.", end)))


def tag_files(paths: Sequence[str], options: TagOptions) -> Summary:
    """Tag all photos of `paths`. Raises UsageError before anything is done, and LabelwiseErrors."""
    check_sources(paths, sidecars=options.sidecars is not None)
    _check_choice(options)
    summary = asyncio.run(_tag(paths, options, Output(options.out, options.every_score)))
    if not summary.counts.seen and not summary.stopped and set(paths) != {STDIN}:
        detail = f"There is no photo in {', '.join(paths)}: names end in {', '.join(SUFFIXES)}. {summary.left_out}"
        raise LabelwiseError(detail.rstrip())
    return summary


def _check_choice(options: TagOptions) -> None:
    if options.servers and options.engine != "embedded":
        raise UsageError("--server asks servers, and --engine runs the model here: choose one.")
    if options.key and not options.servers:
        raise UsageError("--key is for --server.")
    if options.workers and not options.ray:
        raise UsageError("--workers is for --ray: without it all cores of this machine are used.")
    if options.send == "bytes" and not options.servers:
        raise UsageError("--send bytes is for servers: here photos are decoded anyway.")
    if options.send == "pixels" and options.at_gateway:
        raise UsageError("--send pixels is for Triton: the gateway takes photos as they are.")


async def _tag(paths: Sequence[str], options: TagOptions, output: Output) -> Summary:
    transport = options.transport()
    try:
        await _connect(transport, options.patience)
        ledger = output.open(transport.spec, options.force)
        try:
            return await _Run(paths, options, output, ledger, transport).to_its_end()
        finally:
            ledger.close()
    finally:
        await transport.close()


async def _connect(transport: Transport, patience: float) -> None:
    """Wait for a first answer as long as for one later on."""
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


@dataclass(frozen=True)
class _Run:
    """One run, with everything open that it needs."""

    paths: Sequence[str]
    options: TagOptions
    output: Output
    ledger: Ledger
    transport: Transport

    async def to_its_end(self) -> Summary:
        """Whatever ends it, what was tagged is in the output then, and the journal is gone only if that is all."""
        started = time.monotonic()
        publish = functools.partial(self.output.publish, self.ledger, self.transport.spec)
        selection = Selection(self.options.hidden, self.options.exclude)
        with Progress(functools.partial(count_photos, self.paths, self.options.out, selection)) as progress:
            records = Records(self.ledger, publish, progress.show)
            pipeline = Pipeline(records)
            try:
                with _signals(pipeline, progress):
                    await self._score_all(pipeline, records, progress, selection)
            finally:
                publish()
        rows = self.ledger.count()
        if not pipeline.stopped:
            self.ledger.delete()
        seconds = time.monotonic() - started
        return Summary(self.options.out, records.counts, seconds, rows, pipeline.stopped, selection.left_out)

    async def _score_all(self, pipeline: Pipeline, records: Records, progress: Progress, selection: Selection) -> None:
        options, spec = self.options, self.transport.spec
        size, sidecars = options.chunk_size(spec), options.sidecars

        def is_complete(photo: FoundPhoto, row: Row) -> bool:
            return sidecars is None or sidecars.done(photo, row, spec)

        chunks = read_chunks(self.paths, self.ledger, size, REQUEST_BYTES, is_complete, options.out, selection)
        if options.ray:
            from serving.bulk.on_ray import score_on_ray

            await asyncio.to_thread(score_on_ray, chunks, options, size, records, lambda: pipeline.stopped)
            return
        scorer, most = options.scorer(self.transport, progress.note)
        try:
            await pipeline.run(chunks, scorer.score, most)
        finally:
            scorer.close()


@contextmanager
def _signals(pipeline: Pipeline, progress: Progress) -> Iterator[None]:
    """Ctrl-C, SIGTERM and a closed terminal finish what is under way; once more does not wait for it.

    What the run was told to ignore, by nohup or a shell that put it into the background, is none of these.
    """
    loop = asyncio.get_running_loop()
    named = (getattr(signal, name, None) for name in ("SIGINT", "SIGTERM", "SIGHUP"))
    numbers = [number for number in named if number and signal.getsignal(number) is not signal.SIG_IGN]

    def stop() -> None:
        if not pipeline.stopped:
            progress.note("Stopping; what is under way is finished. Once more stops at once.")
        pipeline.stop()

    with suppress(NotImplementedError, RuntimeError, ValueError):  # Windows, or not the main thread
        for number in numbers:
            loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        with suppress(NotImplementedError, RuntimeError, ValueError):
            for number in numbers:
                loop.remove_signal_handler(number)
