"""Limits the decoded pixels that all decoding threads and processes hold at once."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Share:
    """Pixels of a budget, held from the call of `granted` on."""

    def __init__(self, budget: "PixelBudget", pixels: int, granted: Callable[[], object]) -> None:
        self._budget, self.pixels, self.granted = budget, pixels, granted
        self.is_held = False

    def give_back(self) -> None:
        """Gives the pixels back, or stops waiting for them. A second call does nothing."""
        self._budget.give_back(self)


class PixelBudget:
    """Grants shares in order, so that none starves. A picture larger than the budget is held alone."""

    def __init__(self, pixels: int) -> None:
        self._pixels, self._held = pixels, 0
        self._waiting: deque[Share] = deque()
        self._lock = threading.Lock()

    def ask(self, pixels: int, granted: Callable[[], object]) -> Share:
        """Calls `granted` when there is room: at once, or later, on the thread that makes the room."""
        share = Share(self, min(pixels, self._pixels), granted)
        with self._lock:
            self._waiting.append(share)
        self._grant()
        return share

    @contextmanager
    def hold(self, pixels: int, within: float) -> Iterator[None]:
        """Waits on a thread for room. Raises asyncio.TimeoutError if there is none after `within` seconds."""
        turn = threading.Lock()  # released when it is this one's turn; costs a tenth of an Event
        turn.acquire()
        share = self.ask(pixels, turn.release)
        try:
            if not turn.acquire(timeout=within):
                raise asyncio.TimeoutError
            yield
        finally:
            share.give_back()

    def give_back(self, share: Share) -> None:
        with self._lock:
            if share.is_held:
                self._held -= share.pixels
                share.is_held = False
            elif share in self._waiting:
                self._waiting.remove(share)
        self._grant()

    def _grant(self) -> None:
        granted = []
        with self._lock:
            while self._waiting and self._held + self._waiting[0].pixels <= self._pixels:
                share = self._waiting.popleft()
                self._held += share.pixels
                share.is_held = True
                granted.append(share)
        for share in granted:
            share.granted()
