"""Tells from its headers whether a JPEG is of the plain kind that any JPEG decoder shows alike."""

from typing import NamedTuple

from PIL.JpegImagePlugin import JpegImageFile

from .colour import is_srgb
from .jpeg import END, FRAMES, SCAN, segments
from .opening import open_header, refused
from .orientation import settled_orientation
from .structure import Structure

_BASELINE = 0xC0
_Y_CB_CR = (1, 2, 3)  # JFIF's names of the components; with others, decoders guess
_SAMPLINGS = {(0x11, 0x11, 0x11), (0x21, 0x11, 0x11), (0x22, 0x11, 0x11)}  # 4:4:4, 4:2:2, 4:2:0
_ADOBE_Y_CB_CR = 1


class PlainJpeg(NamedTuple):
    """The stored (width, height), the EXIF orientation, and how many bytes of the file hold the picture."""

    size: tuple[int, int]
    orientation: int
    end: int


def read_plain_jpeg(data: bytes, max_pixels: int, structure: Structure | None = None) -> PlainJpeg | None:
    """Returns what is needed to decode `data`, or None if it is not plain, or has no end. Raises ImageError.

    Plain is: baseline, 8 bits, YCbCr in one scan, 4:4:4, 4:2:2 or 4:2:0, in colours that need no conversion to sRGB.
    """
    end = _end_of_plain(data)
    if end is None:
        return None
    with refused(data):
        image = open_header(data, max_pixels, structure)
        is_jpeg = isinstance(image, JpegImageFile) and image.mode == "RGB"
        if not is_jpeg or image.info.get("adobe_transform", _ADOBE_Y_CB_CR) != _ADOBE_Y_CB_CR:
            return None
        return PlainJpeg(image.size, settled_orientation(image), end) if is_srgb(image, data) else None


def _end_of_plain(data: bytes) -> int | None:
    """Returns where the only scan's end marker ends, or None if the frame or its scans are not plain."""
    frame = scan = b""
    for marker, start, body in segments(data):
        if scan:
            return start + 2 if marker == END else None
        if marker in FRAMES:
            if frame or marker != _BASELINE or not _is_plain_frame(body):
                return None
            frame = body
        elif marker == SCAN:
            if not frame or body[:1] != b"\3":
                return None
            scan = body
    return None


def _is_plain_frame(body: bytes) -> bool:
    precision, components = body[0] if body else 0, body[6:15]
    is_y_cb_cr = len(body) == 15 and tuple(components[::3]) == _Y_CB_CR
    return precision == 8 and is_y_cb_cr and tuple(components[1::3]) in _SAMPLINGS
