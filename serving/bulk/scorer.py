"""Turns photos into rows: reads, decodes and scores them. Each photo gets a row, with its scores or its error."""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from labelwise.image import Photo
from labelwise.spec import ImageSpec, TaggerSpec
from serving.bulk.in_flight import InFlight
from serving.bulk.rows import Row, tag_places
from serving.bulk.sources.found import FoundPhoto, reason
from serving.bulk.tag_errors import ServerGone
from serving.client.calls import NOTES
from serving.client.photos import BadPhoto, decoded
from serving.client.transport import Transport
from serving.errors import (
    ClientError,
    PhotoError,
    PhotosRefused,
    ServerBusy,
    ServerFailed,
    ServerTimeout,
    ServerUnavailable,
)

if TYPE_CHECKING:
    from serving.bulk.xmp.sidecars import Sidecars  # a run without sidecars does not load lxml

_TIMEOUTS = (3.0, 30.0)  # seconds for a request with its retries; in between, as long as patience
_PAUSE = (0.5, 3.0)  # seconds between tries, at random
_MOST_FAILED = 8  # photos asked alone, one after the other: if all fail, it is the server's fault
_PASSES = (ServerUnavailable, ServerTimeout)  # ServerBusy is a ServerUnavailable

Prepared = Photo | bytes


class Scored(NamedTuple):
    """A photo's scores [l], the decoder's notes or "", and the embeddings [l, p] if they are kept."""

    scores: NDArray[np.float32]
    notes: str
    embeddings: NDArray[np.float32] | None


class Scorer:
    """Scores chunks with the model behind `transport`, several at once, decoded by `threads` threads.

    While no server answers, or one fails on everything, requests are repeated; after `patience` seconds without any
    answer the run ends with ServerGone. `note` prints when a wait begins.
    """

    def __init__(
        self,
        transport: Transport,
        in_flight: InFlight,
        threads: int,
        *,
        send_bytes: bool,
        sidecars: "Sidecars | None",
        embeddings: bool = False,
        patience: float,
        note: Callable[[str], None],
    ) -> None:
        self._transport, self._in_flight = transport, in_flight
        self._send_bytes, self._sidecars, self._patience, self._note = send_bytes, sidecars, patience, note
        self._outputs = ("scores", "embeddings") if embeddings else ("scores",)
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._silent_since: float | None = None
        self._told: set[str] = set()  # notes that were printed
        self._failed = 0  # photos asked alone since the last answer
        self._timeout = max(_TIMEOUTS[0], min(_TIMEOUTS[1], patience))

    async def score(self, photos: Sequence[FoundPhoto]) -> list[Row]:
        """A row for each photo. Raises ServerGone, or a ClientError that waiting does not help."""
        prepared = await asyncio.get_running_loop().run_in_executor(self._threads, self._prepare, photos)
        answers, spec = await self._ask(prepared), self._transport.spec
        rows = [_row(photo, answer, spec) for photo, answer in zip(photos, answers, strict=True)]
        self._tell(rows)
        if self._sidecars:
            rows = await asyncio.to_thread(self._sidecars.add, photos, rows, self._transport.spec)
        return rows

    def _tell(self, rows: Sequence[Row]) -> None:
        """Print each note once, with the first photo that has it."""
        for row in rows:
            if row.error is None and row.detail and row.detail not in self._told:
                self._told.add(row.detail)
                self._note(f"{row.path}: {row.detail} The column `detail` says so of each such photo.")

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)

    def _prepare(self, photos: Sequence[FoundPhoto]) -> list[Prepared | PhotoError]:
        """Runs on a thread. Holds the bytes of one photo at a time, unless bytes are sent."""
        return [_prepared(photo, None if self._send_bytes else self._transport.spec.image) for photo in photos]

    async def _ask(self, batch: Sequence[Prepared | PhotoError]) -> list[Scored | PhotoError]:
        """The scores of each photo, or its error. Asks again without the photos that the server refuses."""
        photos = [ready for ready in batch if not isinstance(ready, PhotoError)]
        answers: Sequence[Scored | PhotoError]
        try:
            answers = await self._patiently(photos) if photos else ()
        except PhotosRefused as refused:
            self._heard()
            if refused.errors.keys().isdisjoint(range(len(photos))):
                raise
            answers = await self._ask([refused.errors.get(place, photo) for place, photo in enumerate(photos)])
        except ServerFailed as error:
            if half := len(photos) // 2:  # one photo may be to blame
                answers = await self._ask(photos[:half]) + await self._ask(photos[half:])
            else:
                answers = [PhotoError("engine_failed", str(error))]
        left = iter(answers)
        return [ready if isinstance(ready, PhotoError) else next(left) for ready in batch]

    async def _patiently(self, batch: Sequence[Prepared]) -> list[Scored]:
        while True:
            try:
                return await self._infer(batch)
            except ServerFailed as error:
                self._failed += len(batch) == 1
                if len(batch) > 1 or self._failed <= _MOST_FAILED:
                    raise
                self._wait_or_end(error)
            except _PASSES as error:
                self._wait_or_end(error)
            await asyncio.sleep(random.uniform(*_PAUSE))

    async def _infer(self, batch: Sequence[Prepared]) -> list[Scored]:
        async with self._in_flight:
            if self._send_bytes:
                encoded = [photo for photo in batch if isinstance(photo, bytes)]
                outputs = await self._transport.infer_encoded(encoded, self._outputs, self._timeout)
                notes = [" ".join(str(text).splitlines()) for text in outputs.get(NOTES, [""] * len(encoded))]
            else:
                photos = [photo for photo in batch if isinstance(photo, Photo)]
                pixels = np.stack([photo.pixels for photo in photos])
                outputs = await self._transport.infer(pixels, self._outputs, self._timeout)
                notes = [" ".join(photo.notes) for photo in photos]
        self._heard()
        self._in_flight.answered(len(batch))
        embeddings = outputs.get("embeddings", [None] * len(batch))
        return [Scored(*scored) for scored in zip(outputs["scores"], notes, embeddings, strict=True)]

    def _heard(self) -> None:
        self._silent_since, self._failed = None, 0

    def _wait_or_end(self, error: ClientError) -> None:
        now = time.monotonic()
        if isinstance(error, ServerBusy | ServerTimeout):
            self._in_flight.refused()
        if self._silent_since is None:
            self._silent_since = now
            self._note(f"{error} Waiting for an answer, at most {self._patience:.0f} s.")
        if now - self._silent_since >= self._patience:
            raise ServerGone(f"{error} Run the same command again to continue.") from error


def _prepared(photo: FoundPhoto, image: ImageSpec | None) -> Prepared | PhotoError:
    """The photo's bytes or, if there is an `image` size, its pixels."""
    try:
        data = photo.read()
        return data if image is None else decoded(data, image)
    except BadPhoto as error:
        return error.error
    except FileNotFoundError:
        return PhotoError("file_missing", "There is no such file.")
    except OSError as error:
        return PhotoError("file_unreadable", reason(error))


def _row(photo: FoundPhoto, result: Scored | PhotoError, spec: TaggerSpec) -> Row:
    if isinstance(result, PhotoError):
        return Row(photo.path, photo.size, photo.mtime_ns, error=result.code, detail=result.detail)
    scores, notes, vectors = result
    kept = {} if vectors is None else {at: vectors[at].astype("<f2").tobytes() for at in tag_places(scores, spec)}
    return Row(photo.path, photo.size, photo.mtime_ns, scores, detail=notes or None, embeddings=kept)
