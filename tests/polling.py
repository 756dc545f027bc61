"""Waiting for what another process, thread or task does, without guessing when it does it."""

import asyncio
import atexit
import inspect
import subprocess
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

PATIENCE = 300.0  # seconds; only a failing test waits that long
_PAUSE = 0.02

T = TypeVar("T")


def until(condition: Callable[[], T]) -> T:
    """The first true value of `condition`. Raises AssertionError if it stays false."""
    deadline = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < deadline, f"still {value!r} after {PATIENCE:.0f} s"
        time.sleep(_PAUSE)
    return value


def end(process: "subprocess.Popen[str] | subprocess.Popen[bytes]") -> None:
    """Ends a server that is not tested itself. A Triton that was stopped and continued may not end by itself."""
    process.terminate()
    try:
        process.wait(40)  # a Triton gives requests under way 30 seconds
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def end_later(process: "subprocess.Popen[str] | subprocess.Popen[bytes]") -> None:
    """As `end`, but only the end of all tests waits for it: a Triton takes three seconds."""
    process.terminate()
    atexit.register(end, process)


async def until_async(condition: Callable[[], Awaitable[T] | T]) -> T:
    """As `until`, but the condition runs in the event loop and may be a coroutine."""
    deadline = time.monotonic() + PATIENCE
    while not (value := await answer if inspect.isawaitable(answer := condition()) else answer):
        assert time.monotonic() < deadline, f"still {value!r} after {PATIENCE:.0f} s"
        await asyncio.sleep(_PAUSE)
    return value
