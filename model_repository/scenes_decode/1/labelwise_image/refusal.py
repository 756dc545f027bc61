"""Says why a file is refused: its format is not accepted, it uses an unsupported feature, or it is damaged."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image, UnidentifiedImageError

from .errors import BrokenImageError, ImageError, ImageTooLargeError, UnsupportedImageError
from .formats import accepted_formats
from .jpeg import unsupported_coding

# What Pillow's readers, libavif and libheif say about a valid file that they cannot decode. The types of the exceptions
# do not tell: they are the same for damaged files.
_BEYOND_THEM = re.compile(r"Unsupported [\w ]+(\(\d+\))?|cannot handle [\w -]+|Not implemented|No codec available")
_NO_PICTURE = "not identified by this driver"  # the header is valid, but describes nothing that the reader knows


@contextmanager
def refused(data: bytes) -> Iterator[None]:
    """Raises ImageError about `data` for whatever the block raises."""
    try:
        yield
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLargeError("The image has more pixels than can be decoded here; send a smaller one.") from error
    except MemoryError as error:
        raise ImageTooLargeError("The image needs more memory than there is; send a smaller one.") from error
    except Exception as error:  # on hostile bytes, Pillow's plugins raise anything from SyntaxError to struct.error
        raise _refusal(data, error) from error


def _refusal(data: bytes, error: Exception) -> ImageError:
    name = _format(data)
    if name is None:
        names = ", ".join(accepted_formats())
        return UnsupportedImageError(f"The bytes are not an image of an accepted format ({names}).")
    if isinstance(error, UnidentifiedImageError):
        error = _error_of(name, data) or error
    if feature := _unsupported(name, data, str(error)):
        advice = "Save it as an ordinary JPEG or PNG."
        return UnsupportedImageError(f"This {name} file cannot be decoded here: {feature}. {advice}")
    return BrokenImageError("The image is damaged or incomplete and cannot be decoded; send it again whole.")


def _format(data: bytes) -> str | None:
    """Returns the accepted format whose files begin like `data`."""
    for name in accepted_formats():
        accepts = Image.OPEN[name][1]
        if accepts and accepts(data[:16]) is True:
            return name
    return None


def _error_of(name: str, data: bytes) -> Exception | None:
    """Returns what the format's own reader raises when it opens `data`; Pillow's `open` hides it."""
    try:
        Image.OPEN[name][0](io.BytesIO(data), "")
    except Exception as error:
        return error
    return None


def _unsupported(name: str, data: bytes, message: str) -> str | None:
    """Names the unsupported feature that `data` uses, or None if none is known."""
    if name == "JPEG" and (coding := unsupported_coding(data)):
        return f"{coding} is not supported"
    if name == "HEIF" and message == _NO_PICTURE:
        return "only pictures coded as HEVC are supported in this format"
    found = _BEYOND_THEM.search(message)
    return found[0][0].lower() + found[0][1:] if found else None
