"""Counts and log lines are written a moment later, many at once.

Between two requests a model runs, which drives all other code and data out of the processor's caches. Writing the
counts and the line of one request then takes several times as long as it takes within a batch.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

_DELAY = 0.1  # seconds

T = TypeVar("T")


class DelayedWrites:
    """Values that wait to be written. They may be added on any thread; all else happens on one event loop.

    With `at_once` nothing waits: other processes read what is written, and may do so right after an answer.
    """

    def __init__(self, at_once: bool) -> None:
        self._at_once = at_once
        self._channels: list[tuple[deque[Any], Callable[[Any], None]]] = []
        self._is_due = False

    def channel(self, write: Callable[[T], None]) -> Callable[[T], None]:
        """Returns a function that keeps a value until `write` gets it, in the order in which values came."""
        if self._at_once:
            return write
        values: deque[T] = deque()
        self._channels.append((values, write))
        return values.append

    def write_soon(self) -> None:
        """Writes in a moment what was added until then."""
        if not (self._is_due or self._at_once):
            self._is_due = True
            asyncio.get_running_loop().call_later(_DELAY, self.write)

    def write(self) -> None:
        """Writes what was added until now."""
        self._is_due = False
        for values, write in self._channels:
            while values:
                write(values.popleft())
