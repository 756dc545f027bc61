"""How much is worked on at once. Whoever comes beyond a limit is refused at once, instead of waiting unboundedly.

A request holds a place from its complete upload on: a slow upload holds none. What uploads hold is bytes. When there is
no room for more of them, an upload that has stalled is given up.
"""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from serving.gateway.problems import GatewayError
from serving.gateway.requests.deadline import TimeLimit

_PROGRESS = 64 * 2**10  # bytes; an upload that takes more than _STALLED seconds for so many has stalled
_STALLED = 1.0  # seconds


class _Budget:
    """A count that stays within a limit."""

    def __init__(self, limit: int, refusal: str) -> None:
        self._limit, self._refusal = limit, refusal
        self.taken = 0

    def has_room(self, amount: int) -> bool:
        return self.taken + amount <= self._limit

    def require(self, amount: int) -> None:
        if not self.has_room(amount):
            raise GatewayError("overloaded", self._refusal)

    def take(self, amount: int) -> None:
        self.require(amount)
        self.taken += amount


class Place:
    """One request's share, which grows while the request is read."""

    def __init__(self, admission: "Admission") -> None:
        self._admission = admission
        self._held: Counter[_Budget] = Counter()
        self._limit: TimeLimit | None = None
        self._since_mark = 0
        self.marked = time.monotonic()  # when the upload last made progress

    @contextmanager
    def upload(self, seconds: float) -> Iterator[None]:
        """Receive the body in this block. asyncio.TimeoutError after so many seconds, or once it is given up."""
        with TimeLimit(seconds) as self._limit:
            self._admission.uploads.add(self)
            try:
                yield
            finally:
                self._admission.uploads.discard(self)

    @contextmanager
    def fetch(self) -> Iterator[None]:
        """Fetch the photo from a URL in this block. GatewayError `overloaded` if too many are being fetched."""
        self._admission.fetches.take(1)
        try:
            yield
        finally:
            self._admission.fetches.taken -= 1

    def begin(self, images: int = 0) -> None:
        """The request is complete and takes its place. GatewayError `overloaded` if there is none, or no room."""
        self._take(self._admission.requests, 1)
        self.take_images(images)

    def take_images(self, count: int) -> None:
        """GatewayError `overloaded` if there is no room for these photos."""
        self._take(self._admission.images, count)

    def take_bytes(self, count: int) -> None:
        """GatewayError `overloaded` if there is no room for these bytes of an upload."""
        self._since_mark += count
        if self._since_mark >= _PROGRESS:
            self._since_mark, self.marked = 0, time.monotonic()
        self._admission.make_room(count, self)
        self._take(self._admission.upload_bytes, count)

    def give_up(self) -> None:
        """End the upload, which is then answered as one that was too slow; its bytes are free at once."""
        assert self._limit is not None
        self._admission.uploads.discard(self)
        self._limit.end()
        self.give_back()

    def give_back(self) -> None:
        for budget, amount in self._held.items():
            budget.taken -= amount
        self._held.clear()

    def _take(self, budget: _Budget, amount: int) -> None:
        budget.take(amount)
        self._held[budget] += amount


class Admission:
    """Places for requests, and what all of them may hold together. Single-threaded: used on the event loop only."""

    def __init__(self, requests: int, images: int, upload_bytes: int) -> None:
        self.requests = _Budget(
            requests, "As many requests are being worked on as this server takes; try again shortly."
        )
        self.fetches = _Budget(requests, "As many photos are being fetched as this server takes; try again shortly.")
        self.images = _Budget(images, "As many photos are being worked on as this server takes; try again shortly.")
        self.upload_bytes = _Budget(upload_bytes, "As much is being uploaded as this server takes; try again shortly.")
        self.uploads: set[Place] = set()

    @contextmanager
    def place(self) -> Iterator[Place]:
        """Room for a request, given back at the end of the block. GatewayError `overloaded` if every place is taken."""
        self.requests.require(1)  # an upload that would end with a refusal need not begin
        place = Place(self)
        try:
            yield place
        finally:
            place.give_back()

    def make_room(self, count: int, place: Place) -> None:
        """Give up the uploads that have stalled, longest first, until so many bytes have room beside them."""
        while not self.upload_bytes.has_room(count):
            slowest = min(self.uploads - {place}, key=lambda upload: upload.marked, default=None)
            if slowest is None or time.monotonic() - slowest.marked < _STALLED:
                return
            slowest.give_up()
