"""AVIF and HEIF: limits what their boxes hold, and reads their items in a bounded number of steps.

The boxes are those of ISO/IEC 14496-12, the items those of ISO/IEC 23008-12.
"""

import struct
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import NamedTuple

from .cicp import Cicp
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
_MOST_STEPS = 50_000  # boxes, items and coded units; a large phone photo has a few thousand
FULL = 4  # bytes of version and flags, before the content of a full box
_WITHIN_META = 1  # in `iloc`: the item's bytes are in `idat`
_TRACK = (b"moov", b"trak", b"mdia", b"minf", b"stbl")
_SAMPLE_TABLE, _SAMPLE = 8, 78  # bytes before the children of `stsd` and of a sample entry


class IsoBox(NamedTuple):
    kind: bytes
    start: int  # of its content
    end: int


def _boxes(data: bytes, place: int, end: int) -> Iterator[IsoBox]:
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
    items = 0
    for count, (kind, start, end) in enumerate(_nested(data, 0, len(data), _DEEPEST), 1):
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
    return Structure(lambda: data)


def _nested(data: bytes, place: int, end: int, deepest: int) -> Iterator[IsoBox]:
    for box in _boxes(data, place, end):
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


class TooManyBoxes(Exception):
    """The file has more boxes or items than a photo needs."""


class IsoFile:
    """An AVIF or HEIF file. Its methods raise TooManyBoxes, and struct.error or IndexError if it is damaged."""

    def __init__(self, data: bytes) -> None:
        self.data, self._steps = data, 0

    @cached_property
    def meta(self) -> list[IsoBox]:
        box = find(self.top(), b"meta")
        return list(self.inside(box.start + FULL, box.end)) if box else []

    @cached_property
    def primary(self) -> int | None:
        box = find(self.meta, b"pitm")
        return self._numbers(box.start + FULL, self._wide(box), 1)[0] if box else None

    @cached_property
    def kinds(self) -> dict[int, bytes]:
        """The items' types by number."""
        box = find(self.meta, b"iinf")
        if box is None:
            return {}
        entries = self.inside(box.start + FULL + (4 if self._wide(box) else 2), box.end)
        return dict(self._item_info(entry) for entry in entries if entry.kind == b"infe")

    def top(self) -> Iterator[IsoBox]:
        return self.inside(0, len(self.data))

    def inside(self, place: int, end: int) -> Iterator[IsoBox]:
        for box in _boxes(self.data, place, end):
            self.step()
            yield box

    def descend(self, boxes: Iterable[IsoBox], *kinds: bytes) -> list[IsoBox]:
        """Enters the first box of each kind in turn, and returns the boxes in the last; none if a kind is missing."""
        for kind in kinds:
            box = find(boxes, kind)
            if box is None:
                return []
            boxes = self.inside(box.start, box.end)
        return list(boxes)

    def step(self) -> None:
        self._steps += 1
        if self._steps > _MOST_STEPS:
            raise TooManyBoxes

    def references(self, kind: bytes) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Yields each item that refers to others in this way, and those others."""
        box = find(self.meta, b"iref")
        if box is None:
            return
        wide = self._wide(box)
        for reference in self.inside(box.start + FULL, box.end):
            if reference.kind == kind:
                (item,) = self._numbers(reference.start, wide, 1)
                (count,) = struct.unpack_from(">H", self.data, reference.start + (4 if wide else 2))
                yield item, self._numbers(reference.start + (6 if wide else 4), wide, count)

    def properties(self, number: int) -> list[IsoBox]:
        """Returns the properties of an item."""
        known, places = self._properties
        return [known[place - 1] for place in places.get(number, ()) if 0 < place <= len(known)]

    @cached_property
    def _properties(self) -> tuple[list[IsoBox], dict[int, list[int]]]:
        """All properties, and each item's own by their places among them, from 1."""
        inside = self.descend(self.meta, b"iprp")
        known = self.descend(inside, b"ipco")
        places: dict[int, list[int]] = {}
        for box in inside:
            if box.kind == b"ipma":
                for item, found in self._associations(box):
                    places.setdefault(item, []).extend(found)
        return known, places

    @cached_property
    def extents(self) -> dict[int, list[tuple[int, int]]]:
        """The start and end of each piece of the items' bytes, by the items' numbers."""
        box = find(self.meta, b"iloc")
        if box is None:
            return {}
        version, (sizes,) = self.data[box.start], struct.unpack_from(">H", self.data, box.start + FULL)
        offset_size, length_size, base_size, index_size = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
        place = box.start + FULL + 2
        (count,) = self._numbers(place, version == 2, 1)
        place += 4 if version == 2 else 2
        found = {}
        for _ in range(count):
            self.step()
            (item,) = self._numbers(place, version == 2, 1)
            place += 4 if version == 2 else 2
            way = self.data[place + 1] & 15 if version else 0
            place += 4 if version else 2
            base = self._number(place, base_size)
            place += base_size
            (pieces,) = struct.unpack_from(">H", self.data, place)
            place += 2 + (index_size if version else 0)
            width = (index_size if version else 0) + offset_size + length_size
            found[item] = [
                self._extent(place + turn * width, offset_size, length_size, base, way) for turn in range(pieces)
            ]
            place += pieces * width - (index_size if version else 0)
        return found

    def _extent(self, place: int, offset_size: int, length_size: int, base: int, way: int) -> tuple[int, int]:
        self.step()
        box = find(self.meta, b"idat") if way == _WITHIN_META else None
        start = base + self._number(place, offset_size) + (box.start if box else 0)
        length = self._number(place + offset_size, length_size)
        return start, start + length if length else len(self.data)

    def _item_info(self, box: IsoBox) -> tuple[int, bytes]:
        wide = self.data[box.start] == 3
        place = box.start + FULL + (6 if wide else 4)  # after the item's number and its protection
        return self._numbers(box.start + FULL, wide, 1)[0], self.data[place : place + 4]

    def _associations(self, box: IsoBox) -> Iterator[tuple[int, list[int]]]:
        wide, large = self.data[box.start + 3] & 1, self.data[box.start] > 0
        place = box.start + FULL + 4
        for _ in range(struct.unpack_from(">I", self.data, box.start + FULL)[0]):
            self.step()
            (item,) = self._numbers(place, large, 1)
            place += 4 if large else 2
            count = self.data[place]
            packed = struct.unpack_from(f">{count}{'H' if wide else 'B'}", self.data, place + 1)
            yield item, [value & (0x7FFF if wide else 0x7F) for value in packed]
            place += 1 + count * (2 if wide else 1)

    def _wide(self, box: IsoBox) -> bool:
        """Whether item numbers have 4 bytes in this box."""
        return self.data[box.start] > 0

    def _numbers(self, place: int, wide: bool, count: int) -> tuple[int, ...]:
        return struct.unpack_from(f">{count}{'I' if wide else 'H'}", self.data, place)

    def _number(self, place: int, size: int) -> int:
        return int.from_bytes(self.data[place : place + size], "big")


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
    table = find(file.descend(file.top(), *_TRACK), b"stsd")
    entry = next(file.inside(table.start + _SAMPLE_TABLE, table.end), None) if table else None
    return _stated(file, file.inside(entry.start + _SAMPLE, entry.end)) if entry else None


def _stated(file: IsoFile, boxes: Iterable[IsoBox]) -> Cicp | None:
    for box in boxes:
        if box.kind == b"colr" and file.data[box.start : box.start + 4] == b"nclx":
            return Cicp(*struct.unpack_from(">HH", file.data, box.start + 4))
    return None
