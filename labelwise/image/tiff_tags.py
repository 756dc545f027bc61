"""The numbers in a TIFF's first directory, whatever its byte order. Tags are named as in TIFF 6.0."""

import struct
from collections.abc import Collection

from .errors import BrokenImageError, UnsupportedImageError

PREFIXES = (b"II\x2a\0", b"MM\0\x2a", b"II\x2b\0", b"MM\0\x2b")
_BIG = (b"\x2b\0", b"\0\x2b")  # BigTIFF: offsets and counts have 8 bytes
_ITEMS = {1: "B", 3: "H", 4: "I", 5: "II", 16: "Q"}  # byte, short, long, rational, long of 8 bytes
_RATIONAL = 5
_MOST_VALUES = 16

Tags = dict[int, tuple[float, ...]]


def read_tags(data: bytes, wanted: Collection[int]) -> tuple[Tags, dict[int, int]]:
    """Returns the first 16 values of each wanted tag, and how many values it has in all.

    Raises BrokenImageError if a tag is there twice, because decoders differ in which of the two they take; and
    struct.error if the directory reaches beyond the end of the file.
    """
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in _BIG
    if big and order == ">":
        raise UnsupportedImageError("Big-endian BigTIFF is not supported; save it as little-endian or plain TIFF.")
    word, head, place = ("Q", f"{order}HHQ", 8) if big else ("I", f"{order}HHI", 4)
    (place,) = struct.unpack_from(order + word, data, place)
    (entries,) = struct.unpack_from(order + ("Q" if big else "H"), data, place)
    place += 8 if big else 2
    room = struct.calcsize(order + word)  # for values within the entry
    tags: Tags = {}
    counts: dict[int, int] = {}
    for _ in range(entries):
        tag, kind, count = struct.unpack_from(head, data, place)
        values_at = place + struct.calcsize(head)
        place = values_at + room
        if tag not in wanted:
            continue
        if tag in tags or kind not in _ITEMS:
            raise BrokenImageError(f"The TIFF's tag {tag} is there twice or is no number; save the image again.")
        if count * struct.calcsize(order + _ITEMS[kind]) > room:
            (values_at,) = struct.unpack_from(order + word, data, values_at)
        tags[tag] = _values(data, values_at, order, kind, min(count, _MOST_VALUES))
        counts[tag] = count
    return tags, counts


def _values(data: bytes, place: int, order: str, kind: int, count: int) -> tuple[float, ...]:
    values = struct.unpack_from(order + count * _ITEMS[kind], data, place)
    if kind != _RATIONAL:
        return values
    return tuple(top / bottom for top, bottom in zip(values[::2], values[1::2], strict=True))
