"""Judges from a file's structure, before any decoder sees it, whether a decoder finishes with it in time.

Reads the structure of WebP, GIF and BMP itself; that of the other formats comes from their own modules.
"""

from collections.abc import Callable

from .image_errors import ImageTooComplexError
from .isobmff import isobmff_structure
from .jpeg import jpeg_structure
from .png import png_structure
from .structure import Structure, require
from .tiff_tags import HEADS, check_exif, tiff_structure

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
# A decoder takes less than a second for an ordinary file, whatever else is in it.
_MOST_BYTES = 16 * 2**20
_MOST_METADATA = 2**20
_MOST_WORK = 32_000_000  # pixels times scans
_MOST_WEBP_CHUNKS = 10_000  # nearly all of them frames of an animation
_MOST_GIF_BLOCKS = 200_000  # before the picture
_LARGE_GIF = 2**16  # bytes of extensions; more are left out, as the picture does not need them
_IMAGE, _EXTENSION, _CONTROL = 0x2C, 0x21, 0xF9
_BMP_RLE = (1, 2)  # compressions


def read_structure(data: bytes) -> Structure:
    """Raises ImageTooComplexError if the file has more pieces than a decoder can read in time."""
    reader = _reader(data)
    return Structure(lambda: data) if reader is None else reader(data)


def opening_pixels(data: bytes) -> int:
    """Returns how much memory opening the file may take, in pixels, before anything is decoded."""
    return max(len(data), _canvas(data))


def ordinary(data: bytes) -> Structure | None:
    """Returns the file's structure if it is a JPEG, PNG or WebP as cameras and editors write them, of a usual size.

    A decoder finishes soon with such a file. The check takes microseconds, or a millisecond per megabyte of a
    progressive JPEG.
    """
    reader = _reader(data)
    if reader is None or reader not in _ORDINARY or len(data) > _MOST_BYTES:
        return None
    try:
        structure = reader(data, _ORDINARY[reader])
    except ImageTooComplexError:
        return None
    is_ordinary = structure.plain and structure.metadata <= _MOST_METADATA and structure.work <= _MOST_WORK
    return structure if is_ordinary else None


def _webp_structure(data: bytes, most: int = _MOST_WEBP_CHUNKS) -> Structure:
    count = metadata = 0
    plain = True
    place = 12
    while place + 8 <= len(data):
        kind, size = data[place : place + 4], int.from_bytes(data[place + 4 : place + 8], "little")
        count += 1
        require(count <= most, "more than {} frames or other chunks", most)
        if kind == b"EXIF":
            check_exif(data[place + 8 : place + 8 + size])
        if kind not in (b"VP8 ", b"VP8L", b"ALPH"):
            metadata += size
        plain = plain and kind in (b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ICCP", b"EXIF", b"XMP ")
        place += 8 + size + size % 2
    return Structure(lambda: data, metadata, _canvas(data), plain)


def _is_webp(data: bytes) -> bool:
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


def _canvas(data: bytes) -> int:
    """Returns the pixels of a WebP's canvas, which is allocated when the file is opened; 0 for other formats."""
    if not _is_webp(data) or len(data) < 30:
        return 0
    if data[12:16] == b"VP8X":
        return (1 + int.from_bytes(data[24:27], "little")) * (1 + int.from_bytes(data[27:30], "little"))
    if data[12:16] == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (1 + (bits & 0x3FFF)) * (1 + (bits >> 14 & 0x3FFF))
    return (int.from_bytes(data[26:28], "little") & 0x3FFF) * (int.from_bytes(data[28:30], "little") & 0x3FFF)


def _gif_structure(data: bytes) -> Structure:
    """Reads the structure of a GIF up to its first picture. Raises ImageTooComplexError."""
    flags = data[10] if len(data) > 10 else 0
    place = start = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    blocks, control = 0, (0, 0)
    while place + 1 < len(data) and data[place] != _IMAGE:
        begun, is_extension = place, data[place] == _EXTENSION
        place += 2 if is_extension else 1
        blocks += 1
        while is_extension and place < len(data) and data[place]:
            place += 1 + data[place]
            blocks += 1
            require(blocks <= _MOST_GIF_BLOCKS, "more than {} blocks before the picture", _MOST_GIF_BLOCKS)
        require(blocks <= _MOST_GIF_BLOCKS, "more than {} blocks before the picture", _MOST_GIF_BLOCKS)
        place += is_extension
        if is_extension and data[begun + 1] == _CONTROL:
            control = (begun, place)
    if place - start <= _LARGE_GIF:
        return Structure(lambda: data)
    return Structure(lambda: data[:start] + data[slice(*control)] + data[place:])


def _bmp_structure(data: bytes) -> Structure:
    """Reads the structure of a BMP. Bytes after the picture of a run-length coded BMP are not needed."""
    if int.from_bytes(data[30:34], "little") not in _BMP_RLE:
        return Structure(lambda: data)
    width, height = (abs(int.from_bytes(data[at : at + 4], "little", signed=True)) for at in (18, 22))
    # At worst each pixel takes a run of two bytes, and each row two more for its end.
    end = int.from_bytes(data[10:14], "little") + 2 * (width + 4) * (height + 4)
    return Structure(lambda: data[:end])


_Reader = Callable[..., Structure]

_READERS: tuple[tuple[bytes, _Reader], ...] = (
    *((_JPEG, jpeg_structure), (_PNG, png_structure), (b"GIF8", _gif_structure), (b"BM", _bmp_structure)),
    *((head, tiff_structure) for head in HEADS),
)


# How many pieces an ordinary file has at most.
_ORDINARY: dict[_Reader, int] = {jpeg_structure: 64, png_structure: 1024, _webp_structure: _MOST_WEBP_CHUNKS}


def _reader(data: bytes) -> _Reader | None:
    for head, reader in _READERS:
        if data.startswith(head):
            return reader
    if _is_webp(data):
        return _webp_structure
    # Last, because these bytes may also be a JPEG's or a TIFF's.
    return isobmff_structure if data[4:8] == b"ftyp" else None
