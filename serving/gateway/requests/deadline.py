"""How long a request may take, and its early end when the client hangs up."""

import asyncio
import contextlib
import re
import time
from collections.abc import Iterator
from typing import Any

from fastapi import Request

from serving.gateway.problems import GatewayError

TIMEOUT_HEADER = "X-Request-Timeout"
# Most answers are ready sooner, so that watching for a client that hangs up would cost more than it saves.
_WATCHED_FROM = 0.1  # seconds
_SECONDS = re.compile(r"(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", re.ASCII)


class Deadline:
    """When an answer is due, `seconds` from now."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Returns the seconds left, at least a millisecond: used as a timeout, it then expires by itself."""
        return max(self._end - time.monotonic(), 0.001)


def deadline_exceeded() -> GatewayError:
    """The error for work that was not done in time."""
    return GatewayError(
        "deadline_exceeded", "There was not enough time for this request; try again, or send less at once."
    )


class TimeLimit:
    """`with TimeLimit(seconds):` ends with asyncio.TimeoutError, like asyncio.timeout of Python 3.11."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._is_over = seconds, False

    def __enter__(self) -> "TimeLimit":
        self._task = _current_task()
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self.end)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._timer.cancel()
        if self._is_over and kind is asyncio.CancelledError:
            _forget_cancellation(self._task)
            raise asyncio.TimeoutError from None

    def end(self) -> None:
        """Ends the block now."""
        self._is_over = True
        self._task.cancel()


def requested_timeout(request: Request, most: float) -> float:
    """Returns the seconds that the client allows after the complete upload; at most, and by default, `most`."""
    given = request.headers.getlist(TIMEOUT_HEADER)
    if not given:
        return most
    if len(given) > 1 or not _SECONDS.fullmatch(given[0]) or not float(given[0]):
        raise GatewayError("invalid_request", f"{TIMEOUT_HEADER}: give seconds, such as 2.5, and only once.")
    return min(float(given[0]), most)


@contextlib.contextmanager
def ended_by_hang_up(request: Request) -> Iterator[None]:
    """Cancels the block when the client hangs up, and raises GatewayError `client_closed`. The body must be read."""
    watch = _Watch(request)
    try:
        yield
    except asyncio.CancelledError:
        if not watch.has_ended_it:
            raise
        _forget_cancellation(watch.task)
        raise GatewayError("client_closed", "The client hung up before its answer.") from None
    finally:
        watch.stop()


class _Watch:
    def __init__(self, request: Request) -> None:
        self._request, self.task = request, _current_task()
        self._watching: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(_WATCHED_FROM, self._start)
        self.has_ended_it = False

    def _start(self) -> None:
        self._watching = asyncio.create_task(self._until_gone())

    async def _until_gone(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass
        self.has_ended_it = True
        self.task.cancel()

    def stop(self) -> None:
        self._timer.cancel()
        if self._watching is not None:
            self._watching.cancel()


def _current_task() -> "asyncio.Task[Any]":
    task = asyncio.current_task()
    assert task is not None
    return task


def _forget_cancellation(task: "asyncio.Task[Any]") -> None:
    """Undoes a cancellation of ours that has done its work: from 3.11 on, Python counts them."""
    if uncancel := getattr(task, "uncancel", None):
        uncancel()
