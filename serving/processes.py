"""What every process of labelwise sets up, how it ends with its parent, and when one that ended is started again.

As a program, this becomes another one that ends with its parent: python processes.py PARENT COMMAND…  A `preexec_fn`
would do the same, and run Python in a fork of a threaded process.
"""

import contextlib
import ctypes
import gc
import logging
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from typing import TextIO

_PR_SET_PDEATHSIG = 1
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGE = 8 * 2**20  # bytes; mapping a block of this size costs little compared to filling it

_FIRST_WAIT, _LONGEST_WAIT = 1.0, 30.0  # seconds
_STABLE_AFTER = 60.0  # seconds of life after which an end counts as the first again


def end_with(parent: int) -> None:
    """Has the kernel kill this process when its parent, process `parent`, ends.

    The kernel's parent is the thread that started this process. What is set here survives `exec`.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before the line above
            sys.exit()


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """For a block that imports much: the garbage collector would take a tenth of its time and find nothing."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def return_large_blocks() -> None:
    """Makes glibc map each large block separately, and unmap it when it is freed, so that the process shrinks again.

    By default glibc stops doing so after it has freed the first large block. From then on each decoding thread keeps
    the memory of the largest picture that it has met. Without glibc, nothing happens.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE)
        libc.mallopt(_M_TRIM_THRESHOLD, 2 * _LARGE)  # the ratio that glibc itself uses


def log_warnings() -> None:
    """Logs Python's warnings, such as Pillow's about odd photos, in one line without path and code."""
    warnings.showwarning = _log_warning


def _log_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    logging.getLogger("py.warnings").warning("%s: %s", category.__name__, " ".join(str(message).split()))


class Backoff:
    """Waits of 1, 2, 4 … 30 seconds between restarts; with `at_once`, the first restart does not wait."""

    def __init__(self, *, at_once: bool = False) -> None:
        self._first = 0.0 if at_once else _FIRST_WAIT
        self._next = self._first

    def after(self, lived: float) -> float:
        """Returns the seconds to wait after a life of `lived` seconds. A long life starts the series again."""
        delay = self._first if lived > _STABLE_AFTER else self._next
        self._next = min(max(2 * delay, _FIRST_WAIT), _LONGEST_WAIT)
        return delay


def _become(command: list[str]) -> None:
    try:
        os.execv(command[0], command)
    except OSError as error:
        sys.exit(f"error: {command[0]}: {error.strerror}")


if __name__ == "__main__":
    end_with(int(sys.argv[1]))
    _become(sys.argv[2:])
