"""The structure of TIFF's tags, which EXIF uses too."""

import struct
from collections.abc import Iterator
from itertools import islice

from .structure import Structure, require

HEADS = (b"II*\0", b"MM\0*", b"II\0*", b"MM*\0", b"II+\0", b"MM\0+")
_MOST_TAGS = 4096  # of one directory; photographs have up to 200
_MOST_VALUES = 1_000_000  # numbers of all tags; a picture has two for each strip or tile
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_BYTES = {1, 2, 6, 7}  # types whose values are read as one string
_WIDTH, _HEIGHT, _STRIPS, _PER_PIXEL, _TILE_WIDTH, _TILE_HEIGHT, _TILES = 256, 257, 273, 277, 322, 323, 324


def tiff(data: bytes) -> Structure:
    """The structure of a TIFF. Raises ImageTooComplexError."""
    count, values = _check(data)
    _check_pieces(data)
    return Structure(lambda: data, count, values)


def check_exif(block: bytes | memoryview) -> None:
    """Raises ImageTooComplexError for an EXIF block that takes much longer to read than its size explains."""
    for _ in range(2):  # Pillow, too, takes the prefix twice
        block = block[6:] if block[:6] == b"Exif\0\0" else block
    _check(block)


def looks_like_exif(block: bytes | memoryview) -> bool:
    """Whether a directory with a known type of value follows; among a picture's own bytes, none does."""
    return any(kind in _SIZES for _, kind, _, _ in islice(_tags(block), 1))


def _check(data: bytes | memoryview) -> tuple[int, int]:
    """Counts the tags of the first directory and the bytes of their values."""
    count = total = values = 0
    for _, kind, number, _ in _tags(data):
        count += 1
        total += _SIZES.get(kind, 0) * number
        values += 0 if kind in _BYTES else number
        require(count <= _MOST_TAGS, "more than {} tags", _MOST_TAGS)
        require(values <= _MOST_VALUES, "more than {} values in its tags", _MOST_VALUES)
        require(total <= 2 * len(data), "tags that lie over one another")
    return count, total


def _check_pieces(data: bytes) -> None:
    """Refuses more strips or tiles than the picture has room for: they are read one by one."""
    numbers = {tag: number for tag, _, number, _ in _tags(data)}
    first = {tag: value for tag, _, _, value in _tags(data)}
    width, height, each = first.get(_WIDTH, 1), first.get(_HEIGHT, 1), max(1, min(first.get(_PER_PIXEL, 1), 64))
    require(numbers.get(_STRIPS, 0) <= max(height, 1) * each, "more strips than rows")
    across = -(-width // max(first.get(_TILE_WIDTH, 1), 1))
    down = -(-height // max(first.get(_TILE_HEIGHT, 1), 1))
    require(numbers.get(_TILES, 0) <= max(across * down, 1) * each, "more tiles than its size has room for")


def _tags(data: bytes | memoryview) -> Iterator[tuple[int, int, int, int]]:
    """Yields tag, type, number of values and, for a single value, that value; ends where the file does."""
    head = bytes(data[:4])
    if head not in HEADS:
        return
    order, big = "<" if head[:2] == b"II" else ">", b"+" in head
    entry = struct.Struct(order + ("HHQ8s" if big else "HHI4s"))
    try:
        (start,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
        (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, start)
        start += 8 if big else 2
        for place in range(start, start + count * entry.size, entry.size):
            tag, kind, number, value = entry.unpack_from(data, place)
            yield tag, kind, number, int.from_bytes(value[: _SIZES.get(kind, 0)], "little" if order == "<" else "big")
    except (struct.error, OverflowError):
        return
