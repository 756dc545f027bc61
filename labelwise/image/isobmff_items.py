"""Reads the items of an AVIF or HEIF file (ISO/IEC 14496-12 and 23008-12) in a bounded number of steps."""

import struct
from collections.abc import Iterator
from functools import cached_property

from .isobmff_boxes import IsoBox, boxes, find

_MOST_STEPS = 50_000  # boxes, items and coded units; a large phone photo has a few thousand
FULL = 4  # bytes of version and flags, before the content of a full box
_WITHIN_META = 1  # in `iloc`: the item's bytes are in `idat`


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
        for box in boxes(self.data, place, end):
            self.step()
            yield box

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

    def extents(self, number: int) -> list[tuple[int, int]]:
        """Returns start and end of each piece of an item's bytes."""
        return self._extents.get(number, [])

    @cached_property
    def _properties(self) -> tuple[list[IsoBox], dict[int, list[int]]]:
        """All properties, and each item's own by their places among them, from 1."""
        box = find(self.meta, b"iprp")
        inside = list(self.inside(box.start, box.end)) if box else []
        container = find(inside, b"ipco")
        known = list(self.inside(container.start, container.end)) if container else []
        places: dict[int, list[int]] = {}
        for box in inside:
            if box.kind == b"ipma":
                for item, found in self._associations(box):
                    places.setdefault(item, []).extend(found)
        return known, places

    @cached_property
    def _extents(self) -> dict[int, list[tuple[int, int]]]:
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
