"""Reads and writes files whole, and locks files and folders against other processes.

A lock ends with the process that holds it, however the process ends.
"""

import errno
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO


def cache_folder() -> Path:
    """Where this user's programs keep what they can make again; it may not exist. RuntimeError if there is no home."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "labelwise"


def sha256_of(file: Path) -> str:
    """Returns the hex SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_regular_file(file: Path, most: int) -> bytes:
    """Returns the content of `file`. Raises OSError if it holds more than `most` bytes.

    Also raises OSError for a named pipe, which would block until somebody writes.
    """
    descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(descriptor, "rb") as stream:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(file))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(file))
        content = stream.read(most + 1)
        if len(content) > most:
            raise OSError(errno.EFBIG, f"it is larger than {most} bytes", str(file))
        return content


def write_atomically(file: Path, content: bytes, mode: int = 0o666) -> None:
    """Writes aside, syncs and renames: after a crash at any point `file` is whole, old or new.

    The umask trims `mode`.
    """
    # Several may write the same file at once, so each has a name aside of its own.
    aside = file.with_name(f".{file.name[:50]}.{os.getpid()}-{secrets.token_hex(4)}")
    with replacing(file, aside, mode) as stream:
        stream.write(content)


@contextmanager
def replacing(file: Path, aside: Path, mode: int = 0o666) -> Iterator[IO[bytes]]:
    """Writes to `aside`, which is synced and renamed to `file` at the end of the block, or deleted if that fails."""
    try:
        aside.touch(mode)
        with aside.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        aside.replace(file)
    except BaseException:
        with suppress(OSError):
            aside.unlink(missing_ok=True)  # on a full disk the half-written file would only be in the way
        raise


def sync(path: Path) -> None:
    """Makes what a file holds, or which names a folder holds, permanent. Raises OSError if that cannot be done."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def left_aside(file: Path, among: Iterable[Path] | None = None) -> list[Path]:
    """The files that writers of `file` have beside it: killed ones, which left them, and living ones.

    Looks `among` the files given, otherwise at the whole folder.
    """
    ours = re.compile(rf"\.{re.escape(file.name[:50])}\.[0-9]+-[0-9a-f]{{8}}")
    return [
        aside
        for aside in (file.parent.iterdir() if among is None else among)
        if ours.fullmatch(aside.name) and aside.is_file()
    ]


def lock(descriptor: int, wait: bool = True) -> None:
    """Locks an open file or folder until it is closed.

    Raises BlockingIOError if `wait` is false and another process holds the lock, and OSError if the file system has
    no locks.
    """
    import fcntl  # Windows does not have it, and only what locks needs it

    fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


@contextmanager
def locked_folder(folder: Path, wait: bool = True) -> Iterator[int]:
    """Holds the lock of `folder` and yields its descriptor. Raises OSError as `lock` and `os.open` do."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        lock(descriptor, wait)
        yield descriptor
    finally:
        os.close(descriptor)
