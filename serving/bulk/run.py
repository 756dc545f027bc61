"""`labelwise tag`: photos from anywhere, tagged by any engine, into one output; nothing is done twice."""

import asyncio
import functools
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from labelwise.errors import LabelwiseError
from labelwise.image import SUFFIXES
from labelwise.spec import TaggerSpec
from serving.bulk.chunks import Chunk, read_chunks
from serving.bulk.errors import UsageError
from serving.bulk.flight import InFlight
from serving.bulk.ledger import Ledger
from serving.bulk.output import Output
from serving.bulk.own_engine import OwnEngine
from serving.bulk.pipeline import Counts, Pipeline
from serving.bulk.progress import Progress
from serving.bulk.rows import Row
from serving.bulk.scoring import Scorer
from serving.bulk.sources import STDIN, check_sources, count_photos
from serving.bulk.xmp import Sidecars
from serving.client.transport import Transport, create_transport
from serving.settings import load_settings

# Photos a request, at most the model's own limit. An engine of our own gains nothing by more and needs memory for them.
_CHUNK, _CHUNK_FOR_SERVERS = 8, 16
_MOST_IN_FLIGHT = 64
_BYTES_IN_FLIGHT = 256 * 2**20


@dataclass(frozen=True, kw_only=True)
class TagOptions:
    """What may be chosen; `servers` are URLs separated by commas, in place of an `engine` on `repository`."""

    out: str
    engine: Literal["embedded", "triton"] = "embedded"
    repository: Path | None = None
    servers: str | None = None
    model: str | None = None
    key: str | None = None
    send: Literal["auto", "pixels", "bytes"] = "auto"
    every_score: bool = True
    sidecars: Sidecars | None = None
    force: bool = False
    patience: float = 300.0  # seconds without an answer

    @property
    def at_gateway(self) -> bool:
        return (self.servers or "").startswith("http")

    def transport(self) -> Transport:
        """To whatever tags; not connected."""
        if self.servers is None:
            return OwnEngine(self.engine, self.repository, self.model)
        return create_transport(self.servers, self.model, key=self.key)


@dataclass(frozen=True)
class Summary:
    """What a run did, and what is in the output now."""

    out: str
    counts: Counts
    seconds: float
    rows: int
    stopped: bool

    @property
    def broken(self) -> int:
        """Photos of this run that have an error, were they read now or before."""
        return self.counts.broken + self.counts.skipped_broken

    def __str__(self) -> str:
        counts, rate = self.counts, (self.counts.tagged + self.counts.broken) / max(self.seconds, 1e-9)
        words = f"Tagged {counts.tagged:,} photos in {self.seconds:.1f} s ({rate:.0f} a second)"
        words += f"; {counts.skipped:,} unchanged" if counts.skipped else ""
        words += f"; {self.broken:,} with an error (column `error`)" if self.broken else ""
        end = "Stopped: the same command goes on." if self.stopped else ""
        return f"{words}. {self.out} has {self.rows:,} rows. {end}".rstrip()


def tag_files(paths: Sequence[str], options: TagOptions) -> Summary:
    """Tag all photos of `paths`. Raises UsageError before anything is done, and LabelwiseErrors."""
    check_sources(paths)
    _check_send(options)
    summary = asyncio.run(_tag(paths, options, Output(options.out)))
    if not summary.counts.seen and not summary.stopped and set(paths) != {STDIN}:
        raise LabelwiseError(f"There is no photo in {', '.join(paths)}: names end in {', '.join(SUFFIXES)}.")
    return summary


def _check_send(options: TagOptions) -> None:
    if options.send == "bytes" and not options.servers:
        raise UsageError("--send bytes is for servers: here photos are decoded anyway.")
    if options.send == "pixels" and options.at_gateway:
        raise UsageError("--send pixels is for Triton: the gateway takes photos as they are.")


async def _tag(paths: Sequence[str], options: TagOptions, output: Output) -> Summary:
    transport = options.transport()
    try:
        await transport.connect()
        ledger = output.open(transport.spec, options.force)
        try:
            return await _run(paths, options, output, ledger, transport)
        finally:
            ledger.close()
    finally:
        await transport.close()


async def _run(
    paths: Sequence[str], options: TagOptions, output: Output, ledger: Ledger, transport: Transport
) -> Summary:
    started, spec = time.monotonic(), transport.spec
    publish = functools.partial(output.publish, ledger, spec, options.every_score)
    with Progress(functools.partial(count_photos, paths)) as progress:
        scorer, in_flight, threads = _scorer(options, transport, progress)

        async def score(chunk: Chunk) -> list[Row]:
            rows = await scorer.score(chunk.photos)
            if options.sidecars:
                rows = await asyncio.to_thread(options.sidecars.add, chunk.photos, rows, spec)
            return [*chunk.rows, *rows]

        pipeline = Pipeline(ledger, score, publish, progress.show, lambda: threads + in_flight.places)
        is_complete = options.sidecars.exists if options.sidecars else lambda _: True
        try:
            with _signals(pipeline, progress):
                await pipeline.run(read_chunks(paths, ledger, _chunk_size(options, spec), is_complete))
        finally:
            scorer.close()
            publish()
    rows = ledger.count()
    if not pipeline.stopped:
        ledger.delete()
    return Summary(options.out, pipeline.counts, time.monotonic() - started, rows, pipeline.stopped)


def _chunk_size(options: TagOptions, spec: TaggerSpec) -> int:
    return min(_CHUNK_FOR_SERVERS if options.servers else _CHUNK, spec.max_batch)


def _scorer(options: TagOptions, transport: Transport, progress: Progress) -> tuple[Scorer, InFlight, int]:
    """With the requests it may have in flight, and the threads it decodes on."""
    threads, spec = load_settings().threads, transport.spec
    request = _chunk_size(options, spec) * spec.image.height * spec.image.width * 3
    most = max(2, min(_MOST_IN_FLIGHT, _BYTES_IN_FLIGHT // request))
    embedded = options.servers is None and options.engine == "embedded"
    in_flight = InFlight(threads, threads) if embedded else InFlight(most)
    send_bytes = options.send == "bytes" or options.at_gateway
    scorer = Scorer(transport, in_flight, threads, send_bytes=send_bytes, patience=options.patience, note=progress.note)
    return scorer, in_flight, threads


@contextmanager
def _signals(pipeline: Pipeline, progress: Progress) -> Iterator[None]:
    """Ctrl-C and SIGTERM finish what is under way; once more ends at once, which loses no more than that."""
    loop = asyncio.get_running_loop()

    def stop() -> None:
        if pipeline.stopped:
            os._exit(130)
        pipeline.stop()
        progress.note("Stopping; what is under way is finished. Once more stops at once.")

    with suppress(NotImplementedError, RuntimeError, ValueError):  # Windows, or not the main thread
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        with suppress(NotImplementedError, RuntimeError, ValueError):
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
