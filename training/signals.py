"""Ctrl-C and SIGTERM, for work that saves before it stops."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from labelwise.errors import LabelwiseError

STOPPING = (signal.SIGINT, signal.SIGTERM)
_ONE_SIGNAL = 2.0  # seconds in which signals count as one: launchers repeat what the terminal sent already


class Stopped(LabelwiseError):
    """The run was asked to stop, and has saved its state."""

    exit_code = 130


@contextmanager
def handling_signals(handle: Callable[[int, Any], None]) -> Iterator[None]:
    """Both signals call `handle` during the block. Only the main thread can do this."""
    before = {number: signal.signal(number, handle) for number in STOPPING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def stopping_on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Both signals call `stop` during the block. A second one, some seconds later, ends the process at once."""
    first = float("inf")
    before = {number: signal.getsignal(number) for number in STOPPING}

    def handle(number: int, frame: Any) -> None:
        nonlocal first
        now = time.monotonic()
        first = min(first, now)
        stop()
        if now - first > _ONE_SIGNAL:
            signal.signal(number, before[number])
            signal.raise_signal(number)

    is_main = threading.current_thread() is threading.main_thread()
    with handling_signals(handle) if is_main else nullcontext():
        yield
