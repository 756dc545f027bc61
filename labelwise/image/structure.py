"""Terms of a file's structure: what it may consist of, and what of it the decoder needs.

Decoders read everything that stands before the picture, some of it in time that grows with the square of its size, and
none of them stops when it is enough. So each format's pieces are counted first. The limits lie far above what cameras
and editors write: a file may hold megabytes of metadata, but not a million pieces of it.
"""

from collections.abc import Callable
from typing import NamedTuple

from .errors import ImageTooComplexError


class Structure(NamedTuple):
    """`needed` returns the file, or what of it the decoder needs.

    `pieces` counts segments, chunks, blocks, boxes or tags, `metadata` the bytes in them. `work` is pixels times scans.
    `plain` says that nothing is used but what every photo uses.
    """

    needed: Callable[[], bytes]
    pieces: int
    metadata: int = 0
    work: int = 0
    plain: bool = False


def require(condition: bool, what: str, most: int = 0) -> None:
    """Raises ImageTooComplexError about `what`, `most` inserted, unless the condition holds."""
    if not condition:
        reason = what.format(most)
        raise ImageTooComplexError(f"The image has {reason}; save it again, which leaves out what is not needed.")
