"""Ctrl-C and SIGTERM, for work that ends well when it is asked to."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from labelwise.errors import LabelwiseError

_ONE_SIGNAL = 2.0  # seconds within which several signals are one: launchers pass on what the terminal sent already


class Stopped(LabelwiseError):
    """The run was asked to stop, and has saved all it did."""


@contextmanager
def stopping_on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Both call `stop` while the block lasts; another one a while later ends it at once."""
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
    except ValueError:  # not the main thread, which alone gets signals
        numbers = ()
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, before[number])
