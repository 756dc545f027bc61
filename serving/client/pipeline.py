"""One photo to the model's outputs: read and decoded on threads, sent in batches, all of it bounded."""

import asyncio
import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from serving.arrays import Outputs, Pixels
from serving.client.batcher import Batcher
from serving.client.calls import NOTES, SEEN_PHOTO, PhotoOutputs, noted
from serving.client.options import ClientOptions
from serving.client.photos import BadPhoto, Decoded, Photo, decoded, to_bytes
from serving.client.transport import Transport
from serving.errors import ClientClosed, PhotoError, PhotosRefused

_Ready = Pixels | bytes

_CLOSED = "The client was closed meanwhile."


class Pipeline:
    """On a connected `transport`; `sends_pixels` says whether photos are decoded here rather than there."""

    def __init__(self, transport: Transport, options: ClientOptions, sends_pixels: bool) -> None:
        self._transport, self._options = transport, options
        self._largest = min(options.batch, transport.spec.max_batch)
        self._sends_pixels = sends_pixels
        self._threads = ThreadPoolExecutor(options.threads, thread_name_prefix="labelwise-decode")
        self._batchers: dict[tuple[str, ...], Batcher[_Ready, PhotoOutputs | PhotoError]] = {}
        self._closed = False

    @property
    def window(self) -> int:
        """How many photos may be under way at once, so that every request is full and memory is bounded."""
        return self._largest * self._options.in_flight + self._options.threads

    async def run(self, photo: Photo, outputs: tuple[str, ...]) -> PhotoOutputs | PhotoError:
        """`outputs` of one photo, or why it has none. Raises a ClientError where the servers are at fault."""
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
        return row if isinstance(row, PhotoError) else row | {SEEN_PHOTO: _seen(ready), NOTES: noted(ready.notes)}

    def _pixels_for(self, outputs: tuple[str, ...]) -> bool:
        """Triton does not tell how large a photo is and which way up, without which attention lies nowhere."""
        return self._sends_pixels or (self._transport.takes_pixels and "attention" in outputs)

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

    def _prepare(self, photo: Photo, pixels: bool) -> Decoded | bytes:
        if self._closed:  # what waited for a thread meanwhile
            raise ClientClosed(_CLOSED)
        encoded = to_bytes(photo, small=not pixels)
        return decoded(encoded, self._transport.spec.image, self._options.max_pixels) if pixels else encoded

    async def _send(self, outputs: tuple[str, ...], ready: list[_Ready]) -> list[PhotoOutputs | PhotoError]:
        """A row for each; photos that the server refuses are taken out, and the others sent again."""
        answers: list[PhotoOutputs | PhotoError] = [{}] * len(ready)
        left = list(range(len(ready)))
        while left:
            try:
                found = await self._infer([ready[place] for place in left], outputs)
            except PhotosRefused as refused:
                for place, error in refused.errors.items():
                    answers[left[place]] = error
                left = [place for index, place in enumerate(left) if index not in refused.errors]
                continue
            for row, place in enumerate(left):
                answers[place] = {name: values[row] for name, values in found.items()}
            break
        return answers

    async def _infer(self, ready: Sequence[_Ready], outputs: tuple[str, ...]) -> Outputs:
        timeout = self._options.timeout
        if self._pixels_for(outputs):
            return await self._transport.infer(np.stack(ready), outputs, timeout)
        return await self._transport.infer_encoded([bytes(photo) for photo in ready], outputs, timeout)


def _seen(photo: Decoded) -> NDArray[np.float32]:
    return np.array([*photo.size, photo.orientation], np.float32)
