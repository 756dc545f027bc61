"""Reads the colour space that an AVIF or HEIF states by number: its `colr` box of type `nclx` (ISO/IEC 14496-12).

Pillow's AVIF plugin does not expose it.
"""

import struct
from collections.abc import Iterable

from .cicp import Cicp
from .isobmff_boxes import IsoBox, find
from .isobmff_items import IsoFile, TooManyBoxes

_TRACK = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")
_SAMPLE_TABLE, _SAMPLE = 8, 78  # bytes before the children of `stsd` and of a sample entry


def read_nclx(data: bytes) -> Cicp | None:
    """Returns the colour space of the primary item or of the first track, or None if the file states none."""
    file = IsoFile(data)
    try:
        return _of_primary_item(file) or _of_track(file)
    except (TooManyBoxes, struct.error, IndexError):
        return None


def _of_primary_item(file: IsoFile) -> Cicp | None:
    if file.primary is None:
        return None
    # A grid may leave its colour space to its tiles.
    tiles = next((tiles for item, tiles in file.references(b"dimg") if item == file.primary), ())
    for number in (file.primary, *tiles[:1]):
        if found := _stated(file, file.properties(number)):
            return found
    return None


def _of_track(file: IsoFile) -> Cicp | None:
    boxes = list(file.top())
    for kind in _TRACK:
        found = find(boxes, kind)
        if found is None:
            return None
        boxes = list(file.inside(found.start + (_SAMPLE_TABLE if kind == b"stsd" else 0), found.end))
    entry = boxes[0]
    return _stated(file, file.inside(entry.start + _SAMPLE, entry.end))


def _stated(file: IsoFile, boxes: Iterable[IsoBox]) -> Cicp | None:
    for box in boxes:
        if box.kind == b"colr" and file.data[box.start : box.start + 4] == b"nclx":
            return Cicp(*struct.unpack_from(">HH", file.data, box.start + 4))
    return None
