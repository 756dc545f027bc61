"""Keeps the memory that a training step frees, for the next step."""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_NEVER = 2**31 - 1


def keep_freed_memory() -> None:
    """Make glibc keep what is freed, instead of returning large blocks to the kernel at once.

    A step on the CPU frees the same large activations that the next step needs. By default each of them is mapped
    again, and the kernel clears it page by page: over a third of the time of a network with depthwise convolutions.
    Without glibc, nothing happens.
    """
    if libc := _glibc():
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, _NEVER)


def return_freed_memory() -> None:
    """Return to the kernel what is freed, so that a process that is forked next does not share it.

    Shared pages are copied when either process writes to them.
    """
    if libc := _glibc():
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None
