"""Decodes photos in threads, as serving does, within a bounded amount of memory."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from labelwise.cores import usable_cores
from labelwise.image import ImageError, load_pixels
from labelwise.spec import ImageSpec
from training.config import Cache

Pixels = NDArray[np.uint8]
T = TypeVar("T")
R = TypeVar("R")

_THREADS = min(16, usable_cores())
_AHEAD = 4 * _THREADS
_MEMORY_SHARE = 1 / 4


def scaled(image: ImageSpec, scale: float) -> tuple[int, int]:
    """Height and width at `scale` times the model's size."""
    return round(image.height * scale), round(image.width * scale)


def decode(data: bytes, image: ImageSpec, scale: float = 1.0) -> Pixels:
    """uint8 [h * scale, w * scale, 3] from an encoded photo. Raises ImageError."""
    return load_pixels(data, *scaled(image, scale), image.resize, image.interpolation)


def fault(error: ImageError | OSError) -> str:
    """Why a photo cannot be used, without its path."""
    if isinstance(error, FileNotFoundError):
        return "missing"
    return str(error.strerror or error) if isinstance(error, OSError) else str(error)


def ordered_map(function: Callable[[T], R], items: Iterable[T], ahead: int = _AHEAD) -> Iterator[R]:
    """`function` of each item, in order, computed in threads at most `ahead` items before the consumer."""
    rest = iter(items)
    with ThreadPoolExecutor(_THREADS) as pool:
        waiting = deque(pool.submit(function, item) for item in islice(rest, ahead))
        try:
            while waiting:
                result = waiting.popleft().result()
                waiting.extend(pool.submit(function, item) for item in islice(rest, 1))
                yield result
        finally:
            for future in waiting:
                future.cancel()


def keeps(cache: Cache, size: int, processes: int = 1) -> bool:
    """Whether `size` bytes of pixels stay in memory, in each of `processes`; "auto" lends a quarter of what is free."""
    return cache == "memory" or (cache == "auto" and size * processes <= _available_memory() * _MEMORY_SHARE)


def _available_memory() -> int:
    """In bytes: that of the machine, or the container's limit if it is lower."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        available = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(available, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):  # no cgroup, or "max"
        return available
