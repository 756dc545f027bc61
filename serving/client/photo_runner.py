"""Runs photos through the model: reads and decodes them on threads, sends them in batches, all of it bounded."""

import asyncio
import functools
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

import numpy as np

from labelwise.image import Photo as DecodedPhoto
from serving.client.calls import NOTES, SEEN_PHOTO, Call, PhotoOutputs, noted
from serving.client.options import ClientOptions
from serving.client.photos import BadPhoto, PhotoLike, decoded, id_of, to_bytes
from serving.client.transport import Transport
from serving.errors import ClientClosed, PhotoError, PhotosRefused
from serving.inference import Outputs, Pixels

I = TypeVar("I")  # noqa: E741
R = TypeVar("R")
_Ready = Pixels | bytes

# Requests under way that keep a server busy: one that runs, one that waits for it.
_BUSY = 2

_CLOSED = "The client was closed during the call."


class Batcher(Generic[I, R]):
    """Collects single items into batches: full ones under load, small ones at once without.

    `send` answers a batch, in its order. At most `in_flight` batches of at most `largest` are under way.

    A full batch leaves as soon as it may. A smaller one leaves only while fewer than two are under way: until then the
    server would be idle if it waited, and after that more items may join it.
    """

    def __init__(self, send: Callable[[list[I]], Awaitable[Sequence[R]]], largest: int, in_flight: int) -> None:
        self._send, self._largest, self._in_flight = send, largest, in_flight
        self._waiting: deque[tuple[I, asyncio.Future[R]]] = deque()
        self._running: set[asyncio.Task[None]] = set()

    async def submit(self, item: I) -> R:
        """Returns the answer for `item`. Raises what `send` raises."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        self._waiting.append((item, future))
        loop.call_soon(self._pump)  # later, so that items submitted one right after the other leave together
        return await future

    def cancel(self) -> None:
        """Cancels running requests: their callers get ClientClosed."""
        for task in self._running:
            task.cancel()
        for _, future in self._waiting:
            if not future.done():
                future.set_exception(ClientClosed(_CLOSED))
        self._waiting.clear()

    def _pump(self) -> None:
        while self._waiting and len(self._running) < self._places():
            taken = [self._waiting.popleft() for _ in range(min(self._largest, len(self._waiting)))]
            if batch := [(item, future) for item, future in taken if not future.done()]:  # the others were cancelled
                task = asyncio.create_task(self._run(batch))
                self._running.add(task)
                task.add_done_callback(functools.partial(self._ended, batch))

    def _places(self) -> int:
        return self._in_flight if len(self._waiting) >= self._largest else min(_BUSY, self._in_flight)

    def _ended(self, batch: list[tuple[I, asyncio.Future[R]]], task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        for _, future in batch:
            if not future.done():  # the task was cancelled, perhaps before its first line
                future.set_exception(ClientClosed(_CLOSED))
        self._pump()

    async def _run(self, batch: list[tuple[I, asyncio.Future[R]]]) -> None:
        try:
            answers = await self._send([item for item, _ in batch])
        except Exception as error:
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), answer in zip(batch, answers, strict=True):
            if not future.done():
                future.set_result(answer)


class PhotoRunner:
    """Uses a connected `transport`. Photos are decoded here or, as `options` choose, by the server."""

    def __init__(self, transport: Transport, options: ClientOptions) -> None:
        self._transport, self._options = transport, options
        self._largest = min(options.batch, transport.spec.max_batch)
        self._threads = ThreadPoolExecutor(options.threads, thread_name_prefix="labelwise-decode")
        self._batchers: dict[tuple[str, ...], Batcher[_Ready, PhotoOutputs | PhotoError]] = {}
        self._closed = False

    @property
    def window(self) -> int:
        """How many photos may be under way at once, so that every request is full and memory is bounded."""
        return self._largest * self._options.in_flight + self._options.threads

    async def run(self, photo: PhotoLike, place: int, call: Call[R]) -> R:
        """Returns the result of `call` for the photo at `place`. Raises a ClientError if the servers are at fault."""
        return call.result(id_of(photo, place), await self._run(photo, call.outputs))

    async def _run(self, photo: PhotoLike, outputs: tuple[str, ...]) -> PhotoOutputs | PhotoError:
        if self._closed:
            raise ClientClosed("The client is closed.")
        pixels = self._pixels_for(outputs)
        try:
            ready = await asyncio.get_running_loop().run_in_executor(self._threads, self._prepare, photo, pixels)
        except BadPhoto as error:
            return error.error
        if self._closed:
            raise ClientClosed(_CLOSED)
        if isinstance(ready, bytes):
            return await self._batcher(outputs).submit(ready)
        row = await self._batcher(outputs).submit(ready.pixels)
        seen = np.array([*ready.size, ready.orientation], np.float32)
        return row if isinstance(row, PhotoError) else row | {SEEN_PHOTO: seen, NOTES: noted(ready.notes)}

    def _pixels_for(self, outputs: tuple[str, ...]) -> bool:
        """Attention needs the photo's size and orientation, which Triton does not tell."""
        return self._transport.takes_pixels and (self._options.send != "bytes" or "attention" in outputs)

    def _batcher(self, outputs: tuple[str, ...]) -> Batcher[_Ready, PhotoOutputs | PhotoError]:
        if outputs not in self._batchers:
            send = functools.partial(self._send, outputs)
            self._batchers[outputs] = Batcher(send, self._largest, self._options.in_flight)
        return self._batchers[outputs]

    def close(self) -> None:
        self._closed = True
        for batcher in self._batchers.values():
            batcher.cancel()
        self._threads.shutdown(wait=False)

    def _prepare(self, photo: PhotoLike, pixels: bool) -> DecodedPhoto | bytes:
        if self._closed:  # while the photo waited for a thread
            raise ClientClosed(_CLOSED)
        encoded = to_bytes(photo, small=not pixels)
        return decoded(encoded, self._transport.spec.image, self._options.max_pixels) if pixels else encoded

    async def _send(self, outputs: tuple[str, ...], ready: list[_Ready]) -> list[PhotoOutputs | PhotoError]:
        """A row per photo. Takes out photos that the server refuses, and sends the others again."""
        try:
            found = await self._infer(ready, outputs)
        except PhotosRefused as refused:
            left = [photo for place, photo in enumerate(ready) if place not in refused.errors]
            answers = iter(await self._send(outputs, left) if left else ())
            return [refused.errors.get(place) or next(answers) for place in range(len(ready))]
        return [{name: values[row] for name, values in found.items()} for row in range(len(ready))]

    async def _infer(self, ready: Sequence[_Ready], outputs: tuple[str, ...]) -> Outputs:
        timeout = self._options.timeout
        if self._pixels_for(outputs):
            return await self._transport.infer(np.stack(ready), outputs, timeout)
        return await self._transport.infer_encoded([bytes(photo) for photo in ready], outputs, timeout)
