"""Counts that several processes share through files, on disk space that is reserved before it is used.

prometheus_client maps sparse files into memory. On a full disk, the first write to a page without a block ends the
process with SIGBUS. So this reserves the blocks first. If none are left, the process counts in its own memory.
"""

import logging
import os
from pathlib import Path

import prometheus_client.values
from prometheus_client import mmap_dict

logger = logging.getLogger("labelwise.metrics")


class ReservedMmapedDict(mmap_dict.MmapedDict):
    """prometheus_client's file of values. Values that do not fit on the disk stay in this process's memory."""

    def __init__(self, filename: str, read_mode: bool = False) -> None:
        self._unshared: dict[str, tuple[float, float]] = {}
        self._is_shared = read_mode or _create(filename, mmap_dict._INITIAL_MMAP_SIZE)
        if self._is_shared:
            super().__init__(filename, read_mode)  # type: ignore[no-untyped-call]
        else:
            self._f = None  # type: ignore[assignment]  # so that `close` has nothing to do
            logger.error("no room for shared counts: /metrics leaves out what this process counts from now on")

    def read_value(self, key: str) -> tuple[float, float]:
        if self._is_shared and (key in self._positions or self._has_room(key)):
            return super().read_value(key)  # type: ignore[no-untyped-call,no-any-return]
        return self._unshared.setdefault(key, (0.0, 0.0))

    def write_value(self, key: str, value: float, timestamp: float) -> None:
        if key in self._unshared:
            self._unshared[key] = value, timestamp
        else:
            super().write_value(key, value, timestamp)  # type: ignore[no-untyped-call]

    def _has_room(self, key: str) -> bool:
        """Reserves the size to which the base class will double the file for a new key."""
        if key in self._unshared:
            return False
        capacity: int = self._capacity
        while self._used + len(key.encode()) + 40 > capacity:  # with its length, padding, value and timestamp
            capacity *= 2
        return capacity == self._capacity or _reserve(self._f.fileno(), capacity)


def share_counts() -> None:
    """Makes prometheus_client use these files. Call it before the first metric is made."""
    prometheus_client.values.MmapedDict = ReservedMmapedDict  # type: ignore[attr-defined]


def _create(filename: str, size: int) -> bool:
    """Creates a file of `size` zeros, of which readers never see a smaller one. Returns whether that succeeded."""
    aside = Path(f"{filename}.new")
    try:
        with aside.open("wb") as file:
            if _reserve(file.fileno(), size):
                aside.replace(filename)
                return True
        aside.unlink()
    except OSError:
        logger.debug("%s", aside, exc_info=True)
    return False


def _reserve(descriptor: int, size: int) -> bool:
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, size)
        else:
            start = os.fstat(descriptor).st_size
            os.pwrite(descriptor, bytes(size - start), start)
    except OSError:
        return False
    return True
