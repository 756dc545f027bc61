"""Whether a decoder finishes with a file in time, by its structure, which is read before any decoder sees it."""

from collections.abc import Callable

from .bmp import bmp
from .errors import ImageTooComplexError
from .gif import gif
from .isobmff_boxes import isobmff
from .jpeg_segments import jpeg
from .png import png
from .structure import Structure
from .tiff_tags import HEADS, tiff
from .webp import canvas, webp

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_READERS: tuple[tuple[bytes, Callable[[bytes], Structure]], ...] = (
    *((_JPEG, jpeg), (_PNG, png), (b"GIF8", gif), (b"BM", bmp)),
    *((head, tiff) for head in HEADS),
)
# What is ordinary costs a decoder less than a second, whatever else is in it.
_MOST_BYTES = 16 * 2**20
_MOST_PIECES = {_JPEG: 64, _PNG: 1024}
_MOST_METADATA = 2**20
_MOST_WORK = 32_000_000  # pixels times scans


def needed(data: bytes) -> bytes:
    """Returns what of the file a decoder needs: the file itself, unless it holds much text beside its picture.

    Raises ImageTooComplexError for a file of more pieces than a decoder is done with in time.
    """
    reader = _reader(data)
    return data if reader is None else reader(data).needed()


def opening_pixels(data: bytes) -> int:
    """Returns how many pixels' memory opening the file may take, before any is decoded."""
    return max(len(data), canvas(data))


def is_ordinary(data: bytes) -> bool:
    """Whether the file is a JPEG, PNG or WebP of the kind that cameras and editors write, and of no unusual size.

    Takes microseconds, or a millisecond per megabyte of a progressive JPEG. A decoder is done with such a file soon.
    """
    if len(data) > _MOST_BYTES:
        return False
    try:
        if data.startswith(_JPEG):
            structure = jpeg(data, _MOST_PIECES[_JPEG])
        elif data.startswith(_PNG):
            structure = png(data, _MOST_PIECES[_PNG])
        elif _is_webp(data):
            structure = webp(data)
        else:
            return False
    except ImageTooComplexError:
        return False
    return structure.plain and structure.metadata <= _MOST_METADATA and structure.work <= _MOST_WORK


def _reader(data: bytes) -> Callable[[bytes], Structure] | None:
    for head, reader in _READERS:
        if data.startswith(head):
            return reader
    if _is_webp(data):
        return webp
    return isobmff if data[4:8] == b"ftyp" else None  # last, because these bytes may also be a JPEG's or a TIFF's


def _is_webp(data: bytes) -> bool:
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"
