"""How much is worked on at once; whoever is over that is told at once, instead of waiting unboundedly."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from serving.gateway.errors import GatewayError


class _Budget:
    """A count that stays within a limit."""

    def __init__(self, limit: int, refusal: str) -> None:
        self._limit, self._refusal = limit, refusal
        self.taken = 0

    def take(self, amount: int) -> None:
        if self.taken + amount > self._limit:
            raise GatewayError("overloaded", self._refusal)
        self.taken += amount


class Place:
    """One request's share, which grows while the request is read."""

    def __init__(self, admission: "Admission") -> None:
        self._admission = admission
        self._held: Counter[_Budget] = Counter()

    def take_images(self, count: int) -> None:
        """GatewayError `overloaded` where these photos are more than there is room for."""
        self._take(self._admission.images, count)

    def take_bytes(self, count: int) -> None:
        """GatewayError `overloaded` where these bytes of an upload are more than there is room for."""
        self._take(self._admission.upload_bytes, count)

    def _take(self, budget: _Budget, amount: int) -> None:
        budget.take(amount)
        self._held[budget] += amount

    def give_back(self) -> None:
        for budget, amount in self._held.items():
            budget.taken -= amount


class Admission:
    """Places for requests, and what all of them may hold together. Single-threaded: used on the event loop only."""

    def __init__(self, requests: int, images: int, upload_bytes: int) -> None:
        self.requests = _Budget(
            requests, "As many requests are being worked on as this server takes; try again shortly."
        )
        self.images = _Budget(images, "As many photos are being worked on as this server takes; try again shortly.")
        self.upload_bytes = _Budget(upload_bytes, "As much is being uploaded as this server takes; try again shortly.")

    @property
    def taken(self) -> int:
        """Requests that hold a place."""
        return self.requests.taken

    @contextmanager
    def place(self) -> Iterator[Place]:
        """Hold a place for the length of the block; GatewayError `overloaded` if there is none."""
        self.requests.take(1)
        place = Place(self)
        try:
            yield place
        finally:
            place.give_back()
            self.requests.taken -= 1
