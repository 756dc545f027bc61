"""Judges from a file's structure, before any decoder sees it, whether a decoder finishes with it in time."""

from collections.abc import Callable

from .bmp import bmp_structure
from .errors import ImageTooComplexError
from .gif import gif_structure
from .isobmff_boxes import isobmff_structure
from .jpeg_segments import jpeg_structure
from .png import png_structure
from .structure import Structure
from .tiff_tags import HEADS, tiff_structure
from .webp import canvas, is_webp, webp_structure

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_READERS: tuple[tuple[bytes, Callable[[bytes], Structure]], ...] = (
    *((_JPEG, jpeg_structure), (_PNG, png_structure), (b"GIF8", gif_structure), (b"BM", bmp_structure)),
    *((head, tiff_structure) for head in HEADS),
)
# A decoder takes less than a second for an ordinary file, whatever else is in it.
_MOST_BYTES = 16 * 2**20
_MOST_PIECES = {_JPEG: 64, _PNG: 1024}
_MOST_METADATA = 2**20
_MOST_WORK = 32_000_000  # pixels times scans


def needed(data: bytes) -> bytes:
    """Returns the part of the file that a decoder needs: all of it, unless it holds much text beside its picture.

    Raises ImageTooComplexError if the file has more pieces than a decoder can read in time.
    """
    reader = _reader(data)
    return data if reader is None else reader(data).needed()


def opening_pixels(data: bytes) -> int:
    """Returns how much memory opening the file may take, in pixels, before anything is decoded."""
    return max(len(data), canvas(data))


def is_ordinary(data: bytes) -> bool:
    """Whether the file is a JPEG, PNG or WebP as cameras and editors write them, and of a usual size.

    A decoder finishes soon with such a file. The check takes microseconds, or a millisecond per megabyte of a
    progressive JPEG.
    """
    if len(data) > _MOST_BYTES:
        return False
    try:
        if data.startswith(_JPEG):
            structure = jpeg_structure(data, _MOST_PIECES[_JPEG])
        elif data.startswith(_PNG):
            structure = png_structure(data, _MOST_PIECES[_PNG])
        elif is_webp(data):
            structure = webp_structure(data)
        else:
            return False
    except ImageTooComplexError:
        return False
    return structure.plain and structure.metadata <= _MOST_METADATA and structure.work <= _MOST_WORK


def _reader(data: bytes) -> Callable[[bytes], Structure] | None:
    for head, reader in _READERS:
        if data.startswith(head):
            return reader
    if is_webp(data):
        return webp_structure
    return (
        isobmff_structure if data[4:8] == b"ftyp" else None
    )  # last, because these bytes may also be a JPEG's or a TIFF's
