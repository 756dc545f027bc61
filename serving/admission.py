"""How many requests are worked on at once; whoever is over that is told at once, instead of waiting unboundedly."""

from collections.abc import Iterator
from contextlib import contextmanager

from serving.errors import GatewayError


class Admission:
    """A count of places. Single-threaded: used on the event loop only."""

    def __init__(self, places: int) -> None:
        self._places = places
        self.taken = 0

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place for the length of the block; GatewayError `overloaded` if there is none."""
        if self.taken >= self._places:
            raise GatewayError(
                "overloaded", "As many requests are being worked on as this server takes; try again shortly."
            )
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1
