"""Returns freed memory to the system, so that a limit on pixels also bounds the memory of the process."""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_THRESHOLD = 8 * 2**20  # bytes; mapping a block of this size costs little compared to filling it


def return_large_blocks() -> None:
    """Makes glibc map each large block separately, and unmap it when it is freed.

    By default glibc stops doing so after it has freed the first large block. From then on each decoding thread keeps
    the memory of the largest picture that it has met. Without glibc, nothing happens.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, _THRESHOLD)
        libc.mallopt(_M_TRIM_THRESHOLD, 2 * _THRESHOLD)  # the ratio that glibc itself uses
