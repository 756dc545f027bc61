"""How long a request may take, and its early end when the client hangs up."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from fastapi import Request

from serving.gateway.problems import GatewayError
from serving.gateway.requests.head import all_values
from serving.gateway.requests.query import plain_number

TIMEOUT_HEADER = "X-Request-Timeout"
_TIMEOUT = TIMEOUT_HEADER.lower().encode()
# Most answers are ready sooner, so that watching for a client that hangs up would cost more than it saves.
_WATCHED_FROM = 0.1  # seconds


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


def requested_timeout(request: Request, most: float) -> float:
    """Returns the seconds that the client allows after the complete upload; at most, and by default, `most`."""
    given = all_values(request.scope, _TIMEOUT)
    if not given:
        return most
    seconds = plain_number(given[0].decode("latin-1"))
    if len(given) > 1 or not seconds:
        raise GatewayError("invalid_request", f"{TIMEOUT_HEADER}: give seconds, such as 2.5, and only once.")
    return min(seconds, most)


class EarlyEnd:
    """A `with` block that `end` can end from outside. It then raises `error()`."""

    def __init__(self, error: Callable[[], Exception]) -> None:
        self._error, self._is_over = error, False

    def __enter__(self) -> "EarlyEnd":
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._is_over and kind is asyncio.CancelledError:
            if uncancel := getattr(self._task, "uncancel", None):  # from 3.11 on, Python counts cancellations
                uncancel()
            raise self._error() from None

    def end(self) -> None:
        self._is_over = True
        self._task.cancel()


class EndedByHangUp(EarlyEnd):
    """Cancels the block when the client hangs up, and raises GatewayError `client_closed`. The body must be read."""

    def __init__(self, request: Request) -> None:
        super().__init__(_hung_up)
        self._request = request
        self._watch: asyncio.Task[None] | None = None

    def __enter__(self) -> "EndedByHangUp":
        self._timer = asyncio.get_running_loop().call_later(_WATCHED_FROM, self._begin_to_watch)
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._timer.cancel()
        if self._watch is not None:
            self._watch.cancel()
        super().__exit__(*error)

    def _begin_to_watch(self) -> None:
        self._watch = asyncio.create_task(self._until_gone())

    async def _until_gone(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass
        self.end()


def _hung_up() -> GatewayError:
    return GatewayError("client_closed", "The client hung up before its answer.")
