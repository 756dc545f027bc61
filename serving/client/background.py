"""The event loop of all clients that are used without one: in one daemon thread of this process, made when needed."""

import asyncio
import os
import threading


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
