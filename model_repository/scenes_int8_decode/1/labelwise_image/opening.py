"""Opens a file: checks its format and its header, decodes no pixels yet, and says why a file is refused."""

import functools
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image, PngImagePlugin, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from . import tiff
from .budget import check_memory
from .complexity import read_structure
from .image_errors import (
    BrokenImageError,
    EmptyImageError,
    ImageError,
    ImageTooLargeError,
    ImageTooSmallError,
    UnsupportedImageError,
)
from .jpeg import unsupported_coding
from .png import MOST_PROFILE
from .structure import Structure
from .tiff_tags import HEADS

try:
    from pillow_heif import register_heif_opener
except ImportError:  # Pillow alone reads no HEIC; the extra `heif` installs the plugin
    pass
else:
    register_heif_opener()

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF")
# How file names of photos end, in upper or lower case; training, export and bulk tagging share this list.
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".jfi", ".jif", ".mpo"),
    *(".png", ".apng", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff"),
    *(".avif", ".avifs", ".heic", ".heics", ".heif", ".heifs", ".hif"),
)
PngImagePlugin.MAX_TEXT_CHUNK = MOST_PROFILE  # Pillow's own limit is smaller than some monitors' profiles

MAX_PIXELS = 64_000_000
MIN_SIDE = 8

# What Pillow's readers, libavif and libheif say about a valid file that they cannot decode. The types of the exceptions
# do not tell: they are the same for damaged files.
_BEYOND_THEM = re.compile(r"Unsupported [\w ]+(\(\d+\))?|cannot handle [\w -]+|Not implemented|No codec available")
_NO_PICTURE = "not identified by this driver"  # the header is valid, but describes nothing that the reader knows


@functools.cache
def accepted_formats() -> tuple[str, ...]:
    """Returns the FORMATS that this Pillow can open, and HEIF if its plugin is installed."""
    Image.init()
    return tuple(name for name in (*FORMATS, "HEIF") if name in Image.OPEN)


def open_header(data: bytes, max_pixels: int, structure: Structure | None) -> Image.Image:
    """Opens `data` and checks its size. Raises ImageError if the size is refused, and whatever Pillow raises.

    `structure` is that of `data` if the caller has read it.
    """
    if not data:
        raise EmptyImageError("There are no bytes; send an image.")
    data = (structure or read_structure(data)).needed()
    image = _open_tiff(data) if data.startswith(HEADS) else Image.open(io.BytesIO(data), formats=accepted_formats())
    _check_size(image.size, max_pixels)
    check_memory(image, data, max_pixels)
    return image


def _open_tiff(data: bytes) -> Image.Image:
    layout = tiff.read_layout(data)
    try:
        image = Image.open(io.BytesIO(data), formats=["TIFF"])
    except UnidentifiedImageError as error:
        raise tiff.unsupported(f"{layout} in this byte or bit order or with these extra samples") from error
    assert isinstance(image, TiffImageFile)
    tiff.correct(image, layout)
    return image


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        most = f"{max_pixels / 1e6:g} megapixels"
        raise ImageTooLargeError(f"The image is {width}x{height} pixels: send at most {most}.")
    if min(size) < MIN_SIDE:
        raise ImageTooSmallError(f"The image is {width}x{height} pixels; send at least {MIN_SIDE}x{MIN_SIDE}.")


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
