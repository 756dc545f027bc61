"""Limits how much is worked on at once. What would wait too long, or not fit into memory, is refused at once.

How long a request would wait is measured: see `Pace`.

A request takes a place only after its upload, so slow uploads block no other request. Uploads count by their bytes.
If there is no room for more bytes, an upload that has stalled is given up.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

from serving.gateway.problems import GatewayError
from serving.gateway.requests.deadline import EarlyEnd
from serving.gateway.requests.pace import Pace

_PROGRESS = 64 * 2**10  # bytes; an upload that takes more than _STALLED seconds for these has stalled
_STALLED = 1.0  # seconds
_ROOM = 0.8  # of a request's time that it may be expected to take: the rest is for what the estimate misses


class _Budget:
    """A count that stays within a limit."""

    def __init__(self, limit: int, refusal: str) -> None:
        self._limit, self._refusal = limit, refusal
        self.taken = 0

    def has_room(self, amount: int) -> bool:
        return self.taken + amount <= self._limit

    def require(self, amount: int) -> None:
        if self.taken + amount > self._limit:
            raise GatewayError("overloaded", self._refusal)

    def take(self, amount: int) -> None:
        self.require(amount)
        self.taken += amount


class Place:
    """What one request holds until the `with` block ends; it grows while the request is read.

    `seconds` is the time that the request has for the work.
    """

    def __init__(self, admission: "Admission", seconds: float) -> None:
        self._admission, self.seconds = admission, seconds
        self._held: dict[_Budget, int] = {}
        self._upload: EarlyEnd | None = None
        self._since_mark = 0
        self.marked = time.monotonic()  # when the upload last made progress

    def __enter__(self) -> "Place":
        return self

    def __exit__(self, *error: object) -> None:
        self.give_back()

    @contextmanager
    def upload(self, seconds: float) -> Iterator[None]:
        """Receive the body in this block. Raises asyncio.TimeoutError after `seconds`, or if the upload is given up."""
        with EarlyEnd(asyncio.TimeoutError) as self._upload:
            timer = asyncio.get_running_loop().call_later(seconds, self._upload.end)
            self._admission.uploads.add(self)
            try:
                yield
            finally:
                timer.cancel()
                self._admission.uploads.discard(self)

    @contextmanager
    def fetch(self) -> Iterator[None]:
        """Fetch the photo from a URL in this block. Raises GatewayError `overloaded` if too many are being fetched."""
        self._admission.fetches.take(1)
        try:
            yield
        finally:
            self._admission.fetches.taken -= 1

    def begin(self, images: int = 0) -> None:
        """Takes a place for the complete request. Raises GatewayError `overloaded` if there is no place or no room."""
        self._take(self._admission.requests, 1)
        self.take_images(images)

    def take_images(self, count: int) -> None:
        """Raises GatewayError `overloaded` if there is no room for these photos, or not enough time."""
        if count:
            self._admission.require_time(count, self.seconds)
            if not self._admission.images.taken:
                self._admission.pace.begin()
            self._take(self._admission.images, count)

    def take_bytes(self, count: int) -> None:
        """Raises GatewayError `overloaded` if there is no room for these bytes of an upload."""
        self._since_mark += count
        if self._since_mark >= _PROGRESS:
            self._since_mark, self.marked = 0, time.monotonic()
        self._admission.make_room(count, self)
        self._take(self._admission.upload_bytes, count)

    def give_up(self) -> None:
        """Ends the upload, whose answer is then that it was too slow, and frees its bytes at once."""
        assert self._upload is not None
        self._admission.uploads.discard(self)
        self._upload.end()
        self.give_back()

    def give_back(self) -> None:
        for budget, amount in self._held.items():
            budget.taken -= amount
        self._held.clear()

    def _take(self, budget: _Budget, amount: int) -> None:
        budget.take(amount)
        self._held[budget] = self._held.get(budget, 0) + amount


class Admission:
    """Places for requests, and limits on what all of them hold together. Used on the event loop only."""

    def __init__(self, requests: int, images: int, upload_bytes: int) -> None:
        self.requests = _Budget(
            requests, "As many requests are being worked on as this server takes; try again shortly."
        )
        self.fetches = _Budget(requests, "As many photos are being fetched as this server takes; try again shortly.")
        self.images = _Budget(images, "As many photos are being worked on as this server takes; try again shortly.")
        self.upload_bytes = _Budget(upload_bytes, "As much is being uploaded as this server takes; try again shortly.")
        self.uploads: set[Place] = set()
        self.pace = Pace()

    def place(self, seconds: float) -> Place:
        """Returns a place for a request, which holds nothing yet.

        Raises GatewayError `overloaded` if every place is taken, or if its `seconds` would not be enough.
        """
        self.requests.require(1)  # refuse before the upload rather than after it
        self.require_time(1, seconds)
        return Place(self, seconds)

    def require_time(self, images: int, seconds: float) -> None:
        """Raises GatewayError `overloaded` if so many more photos are not expected to be answered within `seconds`."""
        ahead = self.images.taken
        if ahead and self.pace.wait(ahead + images) > seconds * _ROOM:
            raise GatewayError("overloaded", "More photos wait than this server can answer in time; try again shortly.")

    def make_room(self, count: int, place: Place) -> None:
        """Gives up uploads that have stalled, the longest first, until there is room for `count` bytes."""
        while not self.upload_bytes.has_room(count):
            slowest = min(self.uploads - {place}, key=lambda upload: upload.marked, default=None)
            if slowest is None or time.monotonic() - slowest.marked < _STALLED:
                return
            slowest.give_up()
