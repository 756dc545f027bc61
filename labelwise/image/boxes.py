"""The structure of AVIF and HEIF (ISO base media files) and of WebP (RIFF)."""

from collections.abc import Iterator

from .structure import Structure, require
from .tags import check_exif, looks_like_exif

_MOST_ITEMS = 4096  # pictures, tiles, previews and blocks of metadata; a large phone photo has 200
_MOST_BOXES = 10_000
_MOST_TABLE = 2**18  # bytes of one table of items
_MOST_FRAMES = 10_000  # of an animation
_TABLES = {b"iloc", b"iinf", b"iref", b"ipma", b"pitm", b"grpl"}
_INSIDE = {b"meta": 4, b"iprp": 0, b"ipco": 0, b"moov": 0, b"trak": 0, b"mdia": 0, b"minf": 0, b"stbl": 0, b"iinf": 6}
_SAMPLES = {b"stsz", b"stz2", b"stco", b"co64", b"stts", b"stsc", b"ctts", b"stss"}
_DEEPEST = 8
_MOST_EXIF = 64


def isobmff(data: bytes) -> Structure:
    """The structure of an AVIF or HEIF file. Raises ImageTooComplexError."""
    count = items = 0
    for kind, start, end in _boxes(data, 0, len(data), _DEEPEST):
        count += 1
        items += kind == b"infe"
        require(count <= _MOST_BOXES, "more than {} boxes", _MOST_BOXES)
        require(items <= _MOST_ITEMS, "more than {} items", _MOST_ITEMS)
        require(
            kind not in _TABLES or end - start <= _MOST_TABLE,
            "a table of items of more than {} KiB",
            _MOST_TABLE // 1024,
        )
        require(kind not in _SAMPLES or end - start <= 32 * _MOST_FRAMES, "more than {} frames", _MOST_FRAMES)
    _check_exif_items(data)
    return Structure(lambda: data, count)


def webp(data: bytes) -> Structure:
    """The structure of a WebP. Raises ImageTooComplexError."""
    count = metadata = 0
    plain = True
    place = 12
    while place + 8 <= len(data):
        kind, size = data[place : place + 4], int.from_bytes(data[place + 4 : place + 8], "little")
        count += 1
        require(count <= _MOST_FRAMES, "more than {} frames or other chunks", _MOST_FRAMES)
        if kind == b"EXIF":
            check_exif(data[place + 8 : place + 8 + size])
        if kind not in (b"VP8 ", b"VP8L", b"ALPH"):
            metadata += size
        plain = plain and kind in (b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ICCP", b"EXIF", b"XMP ")
        place += 8 + size + size % 2
    return Structure(lambda: data, count, metadata, canvas(data), plain)


def canvas(data: bytes) -> int:
    """Pixels of a WebP's canvas, which its decoder allocates as soon as the file is opened; 0 for other formats."""
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or len(data) < 30:
        return 0
    if data[12:16] == b"VP8X":
        return (1 + int.from_bytes(data[24:27], "little")) * (1 + int.from_bytes(data[27:30], "little"))
    if data[12:16] == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (1 + (bits & 0x3FFF)) * (1 + (bits >> 14 & 0x3FFF))
    return (int.from_bytes(data[26:28], "little") & 0x3FFF) * (int.from_bytes(data[28:30], "little") & 0x3FFF)


def _boxes(data: bytes, place: int, end: int, deepest: int) -> Iterator[tuple[bytes, int, int]]:
    """Yields kind, start and end of each box, and of those inside."""
    while place + 8 <= end and deepest:
        size, kind, start = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8], place + 8
        if size == 1:
            size, start = int.from_bytes(data[start : start + 8], "big"), place + 16
        stop = end if size == 0 else min(place + size, end)
        yield kind, start, stop
        if kind in _INSIDE:
            wide = kind == b"iinf" and data[start : start + 1] != b"\0"  # its version decides how wide the count is
            yield from _boxes(data, start + _INSIDE[kind] + 2 * wide, stop, deepest - 1)
        place = max(stop, place + 8)


def _check_exif_items(data: bytes) -> None:
    """An item's bytes may lie anywhere, so each place that looks like the head of an EXIF block is checked."""
    view, looked = memoryview(data), 0
    for head in (b"II*\0", b"MM\0*"):
        place = data.find(head)
        while place >= 0:
            looked += 1
            require(looked <= _MOST_EXIF, "more than {} blocks of EXIF", _MOST_EXIF)
            if looks_like_exif(view[place:]):
                check_exif(view[place:])
            place = data.find(head, place + 1)
