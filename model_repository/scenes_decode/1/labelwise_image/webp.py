"""The chunks of WebP (RIFF)."""

from .structure import Structure, require
from .tiff_tags import check_exif

_MOST_CHUNKS = 10_000  # nearly all of them frames of an animation


def webp_structure(data: bytes) -> Structure:
    """Reads the structure of a WebP. Raises ImageTooComplexError."""
    count = metadata = 0
    plain = True
    place = 12
    while place + 8 <= len(data):
        kind, size = data[place : place + 4], int.from_bytes(data[place + 4 : place + 8], "little")
        count += 1
        require(count <= _MOST_CHUNKS, "more than {} frames or other chunks", _MOST_CHUNKS)
        if kind == b"EXIF":
            check_exif(data[place + 8 : place + 8 + size])
        if kind not in (b"VP8 ", b"VP8L", b"ALPH"):
            metadata += size
        plain = plain and kind in (b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ICCP", b"EXIF", b"XMP ")
        place += 8 + size + size % 2
    return Structure(lambda: data, count, metadata, canvas(data), plain)


def is_webp(data: bytes) -> bool:
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


def canvas(data: bytes) -> int:
    """Returns the pixels of a WebP's canvas, which is allocated when the file is opened; 0 for other formats."""
    if not is_webp(data) or len(data) < 30:
        return 0
    if data[12:16] == b"VP8X":
        return (1 + int.from_bytes(data[24:27], "little")) * (1 + int.from_bytes(data[27:30], "little"))
    if data[12:16] == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (1 + (bits & 0x3FFF)) * (1 + (bits >> 14 & 0x3FFF))
    return (int.from_bytes(data[26:28], "little") & 0x3FFF) * (int.from_bytes(data[28:30], "little") & 0x3FFF)
