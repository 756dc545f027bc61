"""Finds how many requests in flight bring the most images per second."""

import asyncio
import time

_GAIN = 1.05  # a rate counts as higher from this factor on
_WINDOW = 0.5  # seconds over which a rate is measured, at least
_ROUNDS = 3  # requests per place in a window, at least
_HELD = 20  # windows until it tries again whether more places help


class InFlight:
    """A place for each request: `async with in_flight: …`, then `answered(images)`.

    It begins with `first` places and adds half as many as long as each step brings more images per second. If a step
    does not, it takes that step back and stays there for a while. A server that says it is full halves the places.
    """

    def __init__(self, most: int, first: int = 2) -> None:
        self.places = min(first, most)
        self._most = most
        self._taken = 0
        self._free = asyncio.Condition()
        self._before: tuple[int, float] | None = None  # places and rate before the last step
        self._held = 0
        self._begin()

    async def __aenter__(self) -> None:
        async with self._free:
            await self._free.wait_for(lambda: self._taken < self.places)
            self._taken += 1

    async def __aexit__(self, *_: object) -> None:
        async with self._free:
            self._taken -= 1
            self._free.notify_all()

    def answered(self, images: int, now: float | None = None) -> None:
        """Call this when a request of `images` images was answered."""
        now = time.monotonic() if now is None else now
        self._requests += 1
        self._images += images
        seconds = now - self._since
        if self._requests >= _ROUNDS * self.places and seconds >= _WINDOW:
            self._judge(self._images / seconds)
            self._begin(now)

    def refused(self) -> None:
        """Call this when a server says that its queue is full."""
        self.places, self._before, self._held = max(1, self.places // 2), None, _HELD
        self._begin()

    def _begin(self, now: float | None = None) -> None:
        self._requests, self._images, self._since = 0, 0, time.monotonic() if now is None else now

    def _judge(self, rate: float) -> None:
        if self._held:
            self._held -= 1
        elif self._before and rate < self._before[1] * _GAIN:
            self.places, self._before, self._held = self._before[0], None, _HELD
        elif self.places < self._most:
            self._before = self.places, rate
            self.places = min(self._most, self.places + max(1, self.places // 2))
