"""The boxes of AVIF and HEIF (ISO/IEC 14496-12): the one reader of them, and the limits of what they hold."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from .structure import Structure, require
from .tiff_tags import check_exif, looks_like_exif

_MOST_ITEMS = 4096  # pictures, tiles, previews and blocks of metadata; a large phone photo has 200
_MOST_BOXES = 10_000
_MOST_TABLE = 2**18  # bytes of one table of items
_MOST_FRAMES = 10_000  # of an animation
_TABLES = {b"iloc", b"iinf", b"iref", b"ipma", b"pitm", b"grpl"}
_INSIDE = {b"meta": 4, b"iprp": 0, b"ipco": 0, b"moov": 0, b"trak": 0, b"mdia": 0, b"minf": 0, b"stbl": 0, b"iinf": 6}
_SAMPLES = {b"stsz", b"stz2", b"stco", b"co64", b"stts", b"stsc", b"ctts", b"stss"}
_DEEPEST = 8
_MOST_EXIF = 64


class IsoBox(NamedTuple):
    kind: bytes
    start: int  # of its content
    end: int


def boxes(data: bytes, place: int, end: int) -> Iterator[IsoBox]:
    """Yields the boxes between `place` and `end`, and stops before a damaged one.

    Decoders stop there, too. A truncated box is yielded.
    """
    while place + 8 <= end:
        size, kind, start = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8], place + 8
        if size == 1:
            size, start = int.from_bytes(data[start : start + 8], "big"), place + 16
        stop = end if size == 0 else min(place + size, end)
        if stop < start:
            return
        yield IsoBox(kind, start, stop)
        place = stop


def find(among: Iterable[IsoBox], kind: bytes) -> IsoBox | None:
    return next((box for box in among if box.kind == kind), None)


def isobmff_structure(data: bytes) -> Structure:
    """Reads the structure of an AVIF or HEIF file. Raises ImageTooComplexError."""
    count = items = 0
    for kind, start, end in _nested(data, 0, len(data), _DEEPEST):
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


def _nested(data: bytes, place: int, end: int, deepest: int) -> Iterator[IsoBox]:
    """Yields each box and the boxes inside it."""
    for box in boxes(data, place, end):
        yield box
        if box.kind in _INSIDE and deepest > 1:
            wide = box.kind == b"iinf" and data[box.start : box.start + 1] != b"\0"  # by its version, as its count is
            yield from _nested(data, box.start + _INSIDE[box.kind] + 2 * wide, box.end, deepest - 1)


def _check_exif_items(data: bytes) -> None:
    """Checks each place that looks like the head of an EXIF block, since an item's bytes may be anywhere."""
    view, looked = memoryview(data), 0
    for head in (b"II*\0", b"MM\0*"):
        place = data.find(head)
        while place >= 0:
            looked += 1
            require(looked <= _MOST_EXIF, "more than {} blocks of EXIF", _MOST_EXIF)
            if looks_like_exif(view[place:]):
                check_exif(view[place:])
            place = data.find(head, place + 1)
