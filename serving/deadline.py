"""How long a request may take, and what ends it earlier: a client that hangs up."""

import asyncio
import contextlib
import re
import time
from collections.abc import Awaitable, Iterator
from typing import TypeVar

from fastapi import Request

from serving.errors import GatewayError

TIMEOUT_HEADER = "X-Request-Timeout"
# Most answers are there before it is worth watching for a client that does not wait for its own.
_WATCHED_FROM = 0.1  # seconds
_SECONDS = re.compile(r"\d{1,9}(\.\d{1,9})?", re.ASCII)

T = TypeVar("T")


class Deadline:
    """When an answer is due, `seconds` from now."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds; never quite none, so that what takes them as a timeout runs into it by itself."""
        return max(self._end - time.monotonic(), 0.001)

    async def wait(self, awaitable: Awaitable[T]) -> T:
        """Its result in time; else it is cancelled, and GatewayError `deadline_exceeded`."""
        try:
            return await asyncio.wait_for(awaitable, self.left())
        except asyncio.TimeoutError:
            raise GatewayError(
                "deadline_exceeded", "There was not enough time for this request; try again, or send less at once."
            ) from None


def requested_timeout(request: Request, most: float) -> float:
    """Seconds that the client gives the work, from a complete upload on; at most, and by default, `most`."""
    given = request.headers.get(TIMEOUT_HEADER)
    if given is None:
        return most
    if not _SECONDS.fullmatch(given) or not float(given):
        raise GatewayError("invalid_request", f"{TIMEOUT_HEADER}: give seconds, such as 2.5.")
    return min(float(given), most)


@contextlib.contextmanager
def ended_by_hang_up(request: Request) -> Iterator[None]:
    """Cancel the block once the client of a request that was read has hung up: GatewayError `client_closed`."""
    watch = _Watch(request)
    try:
        yield
    except asyncio.CancelledError:
        if not watch.has_ended_it:
            raise
        watch.forget()
        raise GatewayError("client_closed", "The client hung up before its answer.") from None
    finally:
        watch.stop()


class _Watch:
    def __init__(self, request: Request) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._request, self._task = request, task
        self._watching: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(_WATCHED_FROM, self._start)
        self.has_ended_it = False

    def _start(self) -> None:
        self._watching = asyncio.create_task(self._until_gone())

    async def _until_gone(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass
        self.has_ended_it = True
        self._task.cancel()

    def forget(self) -> None:
        """The cancellation was ours, and has done its work: newer Pythons count them."""
        if uncancel := getattr(self._task, "uncancel", None):
            uncancel()

    def stop(self) -> None:
        self._timer.cancel()
        if self._watching is not None:
            self._watching.cancel()
