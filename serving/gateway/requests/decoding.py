"""Decoding: off the event loop, on so many threads, with so many pixels held decoded at once."""

import asyncio
import functools
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from PIL import Image

from labelwise.image import Hold, Photo, load_photo, open_small
from labelwise.spec import TaggerSpec
from serving.gateway.requests.deadline import Deadline, deadline_exceeded
from serving.workers import Workers

T = TypeVar("T")


class PixelBudget:
    """How many pixels may be held decoded at once; threads wait for their turn, in order, so that none starves."""

    def __init__(self, pixels: int) -> None:
        self._pixels, self._held = pixels, 0
        self._changed = threading.Condition()
        self._waiting: deque[object] = deque()

    @contextmanager
    def hold(self, pixels: int, within: float) -> Iterator[None]:
        """A picture larger than the whole budget is held alone. asyncio.TimeoutError where no turn comes in time."""
        pixels = min(pixels, self._pixels)
        self._wait_for_turn(pixels, within)
        try:
            yield
        finally:
            with self._changed:
                self._held -= pixels
                self._changed.notify_all()

    def _wait_for_turn(self, pixels: int, within: float) -> None:
        turn = object()
        with self._changed:
            self._waiting.append(turn)
            try:
                if not self._changed.wait_for(
                    lambda: self._waiting[0] is turn and self._held + pixels <= self._pixels, within
                ):
                    raise asyncio.TimeoutError
                self._held += pixels
            finally:
                self._waiting.remove(turn)
                self._changed.notify_all()


class Decoders:
    """`threads` that decode, of which what waits is bounded by admission; photos of at most `max_pixels`."""

    def __init__(
        self,
        threads: int,
        max_pixels: int,
        max_decoding_pixels: int,
        on_wait: Callable[[float], None] | None = None,
    ) -> None:
        self.threads = threads
        self._max_pixels = max_pixels
        self._workers = Workers(threads, "decode", on_wait)
        self._budget = PixelBudget(max_decoding_pixels)

    async def run(self, work: Callable[[], T], deadline: Deadline) -> T:
        """`work` on a thread; not begun any more when the deadline is over or the caller is cancelled."""
        try:
            return await self._workers.run(work, deadline.left())
        except asyncio.TimeoutError:
            raise deadline_exceeded() from None

    async def photo(self, data: bytes, spec: TaggerSpec, deadline: Deadline) -> Photo:
        """One photo at the model's size. Raises ImageError, or GatewayError `deadline_exceeded`."""
        return await self.run(functools.partial(self._load, data, spec, deadline), deadline)

    async def small(self, data: bytes, side: int, deadline: Deadline, draw: Callable[[Image.Image], T]) -> T:
        """What `draw` makes, on a thread, of a photo with no side above `side`. Raises as `photo`."""

        def work() -> T:
            return draw(open_small(data, side, self._max_pixels, self._hold(deadline)))

        return await self.run(work, deadline)

    def _hold(self, deadline: Deadline) -> Hold:
        return functools.partial(self._budget.hold, within=deadline.left())

    def _load(self, data: bytes, spec: TaggerSpec, deadline: Deadline) -> Photo:
        image, hold = spec.image, self._hold(deadline)
        return load_photo(data, image.height, image.width, image.resize, image.interpolation, self._max_pixels, hold)
