"""What a file consists of, and which part of it a decoder needs.

Decoders read everything before the picture, some of it in quadratic time, and never give up. So the pieces of each
format are counted first. The limits lie far above what cameras and editors write: a file may hold megabytes of
metadata, but not a million pieces of it.
"""

from collections.abc import Callable
from typing import NamedTuple

from .image_errors import ImageTooComplexError


class Structure(NamedTuple):
    """A file whose pieces are not too many.

    `needed` returns the part of the file that the decoder needs: all of it, unless it holds much text beside its
    picture. The rest is known of JPEG, PNG and WebP only:
    `metadata` counts bytes, `work` is pixels times scans, and a `plain` file uses only what every photo uses.
    """

    needed: Callable[[], bytes]
    metadata: int = 0
    work: int = 0
    plain: bool = False


def require(condition: bool, what: str, most: int = 0) -> None:
    """Raises ImageTooComplexError unless the condition holds; `what` names the excess, with `most` in place of {}."""
    if not condition:
        reason = what.format(most)
        raise ImageTooComplexError(f"The image has {reason}; save it again, which drops what is not needed.")
