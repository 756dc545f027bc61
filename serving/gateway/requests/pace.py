"""How long a photo would wait: measured from the answers, so that a server admits what it can answer in time."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable

from serving.workers import settle

_WEIGHT = 0.1  # of the latest photo in the average


class Pace:
    """The seconds between answered photos while there is always one to work on."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seconds: float | None = None  # per photo, over all threads
        self._since = 0.0  # the last answer, or the end of an idle time

    def begin(self) -> None:
        """The server was idle, and has a photo again."""
        self._since = self._clock()

    def answered(self, images: int) -> None:
        """So many photos were worked on to the end. Photos that were given up do not count, or a server whose requests
        all come too late would seem to be fast.
        """
        now = self._clock()
        seconds = (now - self._since) / images
        self._since = now
        if self._seconds is None:
            self._seconds = seconds
        else:
            self._seconds += (1 - (1 - _WEIGHT) ** images) * (seconds - self._seconds)

    def wait(self, images: int) -> float:
        """The seconds until so many photos are answered: 0 before the first answer."""
        return images * (self._seconds or 0.0)


class Gate:
    """Lets photos through, up to `places` at once, in the order of arrival. Used on one event loop."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._queue: deque[tuple[int, asyncio.Future[None]]] = deque()

    def enter_now(self, count: int) -> bool:
        """Takes `count` places if they are free and nobody waits."""
        if self._queue or self._free < count:
            return False
        self._free -= count
        return True

    async def enter(self, count: int, timeout: float) -> None:
        """Waits for `count` places, which are no more than all, and takes them. Raises asyncio.TimeoutError."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        waiting = (count, turn)
        self._queue.append(waiting)
        self._admit()
        timer = loop.call_later(timeout, settle, turn, None, asyncio.TimeoutError())
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled() and turn.exception() is None:  # let through, and cancelled at once
                self.leave(count)
            else:
                with contextlib.suppress(ValueError):
                    self._queue.remove(waiting)
                self._admit()
            raise
        finally:
            timer.cancel()

    def leave(self, count: int) -> None:
        self._free += count
        if self._queue:
            self._admit()

    def _admit(self) -> None:
        while self._queue:
            count, turn = self._queue[0]
            if not turn.done():  # otherwise it has given up
                if count > self._free:
                    return
                self._free -= count
                turn.set_result(None)
            self._queue.popleft()
