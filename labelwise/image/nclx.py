"""The colour space that an AVIF or HEIF file states by number: its `colr` box of type `nclx` (ISO/IEC 14496-12).

Pillow's AVIF plugin does not expose it. This reads only boxes, in a bounded number of steps.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from .cicp import Cicp

_MOST_STEPS = 10_000  # boxes and items; a large phone photo has some hundreds
_TRACK = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")
_FULL, _SAMPLE_TABLE, _SAMPLE = 4, 8, 78  # bytes before the children of a full box, of `stsd` and of a sample entry


class _Box(NamedTuple):
    kind: bytes
    start: int  # of what it holds
    end: int


class _TooMany(Exception):
    """The file has more boxes or items than a photo needs."""


def read_nclx(data: bytes) -> Cicp | None:
    """Returns the colour space of the primary item, or of the first track, or None if the file states none."""
    reader = _Reader(data)
    try:
        return reader.of_primary_item() or reader.of_track()
    except (_TooMany, struct.error, IndexError):
        return None


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data, self._steps = data, 0

    def of_primary_item(self) -> Cicp | None:
        meta = self._find(self._top(), b"meta")
        if meta is None:
            return None
        inside = list(self._boxes(meta.start + _FULL, meta.end))
        item, properties = self._find(inside, b"pitm"), self._find(inside, b"iprp")
        if item is None or properties is None:
            return None
        primary = self._item_id(item, item.start + _FULL)
        # A grid may leave its colour space to its tiles.
        for number in (primary, *self._tiles(inside, primary)):
            if found := self._of_item(properties, number):
                return found
        return None

    def of_track(self) -> Cicp | None:
        boxes = list(self._top())
        for kind in _TRACK:
            found = self._find(boxes, kind)
            if found is None:
                return None
            boxes = list(self._boxes(found.start + (_SAMPLE_TABLE if kind == b"stsd" else 0), found.end))
        entry = boxes[0]
        return self._stated(self._boxes(entry.start + _SAMPLE, entry.end))

    def _of_item(self, properties: _Box, number: int) -> Cicp | None:
        inside = list(self._boxes(properties.start, properties.end))
        container = self._find(inside, b"ipco")
        if container is None:
            return None
        known = list(self._boxes(container.start, container.end))
        places = [place for box in inside if box.kind == b"ipma" for place in self._associated(box, number)]
        return self._stated(known[place - 1] for place in places if 0 < place <= len(known))

    def _stated(self, boxes: Iterator[_Box]) -> Cicp | None:
        for box in boxes:
            if box.kind == b"colr" and self._data[box.start : box.start + 4] == b"nclx":
                return Cicp(*struct.unpack_from(">HH", self._data, box.start + 4))
        return None

    def _associated(self, box: _Box, number: int) -> list[int]:
        """The places in `ipco`, from 1, of an item's properties."""
        wide, large = self._data[box.start + 3] & 1, self._data[box.start] > 0
        place = box.start + _FULL + 4
        for _ in range(struct.unpack_from(">I", self._data, box.start + _FULL)[0]):
            self._step()
            (item,) = struct.unpack_from(">I" if large else ">H", self._data, place)
            place += 4 if large else 2
            count, size = self._data[place], 2 if wide else 1
            if item == number:
                packed = struct.unpack_from(f">{count}{'H' if wide else 'B'}", self._data, place + 1)
                return [value & (0x7FFF if wide else 0x7F) for value in packed]
            place += 1 + count * size
        return []

    def _tiles(self, inside: list[_Box], number: int) -> list[int]:
        """The first item that `number` is derived from."""
        references = self._find(inside, b"iref")
        if references is None:
            return []
        code = ">I" if self._data[references.start] else ">H"
        for box in self._boxes(references.start + _FULL, references.end):
            if box.kind == b"dimg" and struct.unpack_from(code, self._data, box.start)[0] == number:
                return [*struct.unpack_from(code, self._data, box.start + struct.calcsize(code) + 2)]
        return []

    def _item_id(self, box: _Box, place: int) -> int:
        number: int = struct.unpack_from(">I" if self._data[box.start] else ">H", self._data, place)[0]
        return number

    def _find(self, boxes: Iterator[_Box] | list[_Box], kind: bytes) -> _Box | None:
        return next((box for box in boxes if box.kind == kind), None)

    def _top(self) -> Iterator[_Box]:
        return self._boxes(0, len(self._data))

    def _boxes(self, place: int, end: int) -> Iterator[_Box]:
        while place + 8 <= end:
            self._step()
            size, kind = struct.unpack_from(">I4s", self._data, place)
            start = place + 8
            if size == 1:
                (size,) = struct.unpack_from(">Q", self._data, start)
                start += 8
            stop = end if size == 0 else min(place + size, end)
            if stop < start:
                return
            yield _Box(kind, start, stop)
            place = stop

    def _step(self) -> None:
        self._steps += 1
        if self._steps > _MOST_STEPS:
            raise _TooMany
