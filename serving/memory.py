"""Freed memory goes back to the system: what a limit on pixels bounds is then what the process holds."""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_THRESHOLD = 8 * 2**20  # bytes: where mapping costs little beside what fills it


def return_large_blocks() -> None:
    """Let glibc map large blocks singly, and unmap them when they are freed.

    By default it stops doing so after the first large block was freed: from then on each decoding thread keeps the
    memory of the largest picture it has met. Elsewhere than on glibc, nothing happens.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, _THRESHOLD)
        libc.mallopt(_M_TRIM_THRESHOLD, 2 * _THRESHOLD)  # as glibc would; small photos are not to pay for large ones
