"""Ctrl-C and SIGTERM, for work that saves before it stops."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from labelwise.errors import LabelwiseError

_ONE_SIGNAL = 2.0  # seconds in which signals count as one: launchers repeat what the terminal sent already


class Stopped(LabelwiseError):
    """The run was asked to stop, and has saved its state."""

    exit_code = 130


@contextmanager
def stopping_on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Both signals call `stop` during the block. A second one, some seconds later, ends the process at once."""
    first = float("inf")

    def handle(number: int, frame: Any) -> None:
        nonlocal first
        now = time.monotonic()
        first = min(first, now)
        stop()
        if now - first > _ONE_SIGNAL:
            signal.signal(number, before[number])
            signal.raise_signal(number)

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        for number in numbers:
            signal.signal(number, handle)
    except ValueError:  # only the main thread can handle signals
        numbers = ()
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, before[number])
