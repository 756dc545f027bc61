"""Shared memory for pixels: a Triton on this host reads them there, so that requests carry no copy.

A region is a file in /dev/shm that is locked as long as the client that made it lives. So the next client finds what a
killed client left behind, there and in Triton, and clears it away.
"""

import asyncio
import contextlib
import itertools
import logging
import mmap
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from labelwise.files import lock
from serving.errors import ServerTimeout, ServerUnavailable, ServingError
from serving.inference import Pixels
from serving.triton.channel import RegionForgotten, our_errors

logger = logging.getLogger("labelwise.client")

_FOLDER = Path("/dev/shm")  # where Linux has POSIX shared memory
_PREFIX = "labelwise-pixels-"
_RESTRICTED = "restricted"  # Triton's word for what it forbids; the status is that of a server that is down
_CLEARING = 1.0  # seconds that Triton may take to learn of a region, or to forget them
_PAUSE = 5.0  # seconds before a Triton that did not answer is asked again
_RECENT = 60.0  # seconds; between making a region and locking it there is a moment


class Region:
    """A file in shared memory of at most `size` bytes. It takes up as many of them as were ever used."""

    def __init__(self, size: int) -> None:
        self.name = f"{_PREFIX}{secrets.token_hex(8)}"
        self._path = _FOLDER / self.name
        self._used = 0
        with os.fdopen(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "r+b") as file:
            try:
                lock(file.fileno())
                file.truncate(size)
                self._memory = np.frombuffer(mmap.mmap(file.fileno(), size), np.uint8)  # keeps the file locked
            except OSError:
                self.remove()
                raise

    def fill(self, pixels: Pixels) -> None:
        """Raises OSError if memory is short. Writing without asking for it first would end the process."""
        if pixels.nbytes > self._used:
            with self._path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, pixels.nbytes)
            self._used = pixels.nbytes
        self._memory[: pixels.nbytes] = pixels.reshape(-1)

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)


class SharedMemory:
    """Regions for the Triton at `url`, one per request under way.

    If Triton is on another host or forbids shared memory, pixels stay in the requests.
    """

    def __init__(self, client: Any, url: str) -> None:
        self._client, self._url = client, url
        self._regions: set[Region] = set()  # that Triton knows
        self._free: list[Region] = []
        self._not_before = 0.0
        self._is_possible: bool | None = None if _FOLDER.is_dir() else False  # None: not known yet
        self._has_worked = False
        self._registering = asyncio.Lock()  # so that Triton refuses once, and not each request

    @contextlib.asynccontextmanager
    async def holding(self, pixels: Pixels, largest: int) -> AsyncIterator[str | None]:
        """Yields the name of a region that holds `pixels`, or None if they have to go into the request.

        `largest`: bytes of the largest request. The body raises RegionForgotten if Triton does not know the region.
        """
        region = await self._filled(pixels, largest)
        try:
            yield region.name if region else None
        except RegionForgotten:
            if region:
                self._drop(region)
                region = None
            raise
        finally:  # Triton may still read it for a request that was given up, whose answer is not needed
            if region:
                self._free.append(region)

    async def close(self) -> None:
        """Removes regions that Triton no longer reads, or stops reading within a second."""
        self._is_possible = False
        until = time.monotonic() + _CLEARING
        while self._regions and time.monotonic() < until:
            regions = list(self._regions)
            forgotten = await asyncio.gather(*(self._forget(region.name) for region in regions))
            for region in itertools.compress(regions, forgotten):
                self._drop(region)
            await asyncio.sleep(0.05 if self._regions else 0)

    def _drop(self, region: Region) -> None:
        region.remove()
        self._regions.discard(region)

    async def _filled(self, pixels: Pixels, largest: int) -> Region | None:
        region: Region | None = None
        try:
            if self._is_possible is not False:
                region = self._free.pop() if self._free else await self._registered(largest)
            if region:
                region.fill(pixels)
            return region
        except OSError as error:
            self._do_without(f"shared memory: {error.strerror}")
            if region:
                self._free.append(region)
            return None

    async def _registered(self, size: int) -> Region | None:
        async with self._registering:
            if self._is_possible is None:
                self._is_possible = await is_on_this_host(self._url)
            if not self._is_possible or time.monotonic() < self._not_before:
                return None
            region = Region(size)
            try:
                with our_errors(self._url):
                    await self._client.register_system_shared_memory(
                        region.name, f"/{region.name}", size, client_timeout=_CLEARING
                    )
            except ServingError as error:
                region.remove()
                if _RESTRICTED in str(error) or not isinstance(error, ServerTimeout | ServerUnavailable):
                    self._do_without(str(error))
                self._not_before = time.monotonic() + _PAUSE
                return None
            self._regions.add(region)
            if not self._has_worked:
                self._has_worked = True
                logger.info("pixels go to %s through shared memory", self._url)
                await self._clear_away()
            return region

    def _do_without(self, reason: str) -> None:
        self._is_possible = False
        logger.info("pixels go to %s in requests: %s", self._url, reason)

    async def _clear_away(self) -> None:
        """Removes the regions of clients that no longer live."""
        with contextlib.suppress(ServingError), our_errors(self._url):
            status = await self._client.get_system_shared_memory_status(client_timeout=_CLEARING)
            known = {name for name in status.regions if name.startswith(_PREFIX)}
            for name in known | _names():
                if _is_left_behind(_FOLDER / name) and (name not in known or await self._forget(name)):
                    (_FOLDER / name).unlink(missing_ok=True)

    async def _forget(self, name: str) -> bool:
        """Returns whether Triton has forgotten the region. It keeps one that it is reading."""
        try:
            with our_errors(self._url):
                await self._client.unregister_system_shared_memory(name, client_timeout=_CLEARING)
        except ServerUnavailable:  # Triton is gone itself
            return True
        except ServingError:
            return False
        return True


async def is_on_this_host(url: str) -> bool:
    """Whether the address of a server belongs to this host."""
    parts = urlsplit(url)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(parts.hostname, 0, type=socket.SOCK_STREAM)
        for family, kind, protocol, _, address in found:
            with contextlib.suppress(OSError), socket.socket(family, kind, protocol) as probe:
                probe.bind(address)
                return True
    except OSError:  # no such name; connecting says so later
        pass
    return False


def _names() -> set[str]:
    return {file.name for file in _FOLDER.glob(f"{_PREFIX}*")}


def _is_left_behind(file: Path) -> bool:
    """Whether no client holds it."""
    try:
        with file.open("rb") as opened:
            if os.fstat(opened.fileno()).st_mtime > time.time() - _RECENT:
                return False
            lock(opened.fileno(), wait=False)
            return True
    except FileNotFoundError:
        return True
    except OSError:  # locked, or owned by another user
        return False
