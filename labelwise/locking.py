"""Exclusive locks between processes. A lock ends with the process that holds it, however the process ends."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


def lock(descriptor: int, wait: bool = True) -> None:
    """Locks an open file or folder until it is closed.

    Raises BlockingIOError if `wait` is false and another process holds the lock, and OSError if the file system has
    no locks.
    """
    import fcntl  # Windows does not have it, and only what locks needs it

    fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


@contextlib.contextmanager
def locked_folder(folder: Path, wait: bool = True) -> Iterator[int]:
    """Holds the lock of `folder` and yields its descriptor. Raises OSError as `lock` and `os.open` do."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        lock(descriptor, wait)
        yield descriptor
    finally:
        os.close(descriptor)
