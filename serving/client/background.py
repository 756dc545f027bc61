"""The event loop of all clients that are used without one: in one daemon thread of this process, made when needed."""

import asyncio
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

T = TypeVar("T")


@dataclass(frozen=True)
class _Outcome(Generic[T]):
    value: T | None
    error: Exception | None


Running = Future[_Outcome[T]]  # work on the loop in the background


class _Background:
    """gRPC's polling thread serves every loop of a process and stumbles over closed ones, so this one stays open."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        if hasattr(os, "register_at_fork"):  # not on Windows, which has no forks
            os.register_at_fork(after_in_child=self._forget)

    def loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="labelwise-client", daemon=True).start()
            return self._loop

    def _forget(self) -> None:
        """A fork has no such thread."""
        self._lock, self._loop = threading.Lock(), None


background = _Background()


def run_on(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> Running[T]:
    """Starts `work` on the `loop` of another thread."""
    return asyncio.run_coroutine_threadsafe(_outcome(work), loop)


def result_of(running: Running[T]) -> T:
    """Waits for the result of the work. Raises what it raised."""
    try:
        outcome = running.result()
    except BaseException:  # such as Ctrl-C: nobody will come back for it
        running.cancel()
        raise
    if outcome.error is not None:
        raise outcome.error
    return cast(T, outcome.value)


async def _outcome(work: Coroutine[Any, Any, T]) -> _Outcome[T]:
    """Never raises: asyncio complains about an exception that nobody fetches, as in a stream that is left early."""
    try:
        return _Outcome(await work, None)
    except Exception as error:
        return _Outcome(None, error)
