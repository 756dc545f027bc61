"""Reads the tags in the first directory of a TIFF or an EXIF block, and limits what they hold.

Tags are named as in TIFF 6.0.
"""

import struct
from collections.abc import Collection, Iterator
from contextlib import suppress
from itertools import islice

from .image_errors import BrokenImageError, UnsupportedImageError
from .structure import Structure, require

# Byte order and version. The last two are in no standard, but Pillow reads them.
HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"II\0*", b"MM*\0")
_MOST_TAGS = 4096  # in one directory; photos have up to 200
_MOST_VALUES = 1_000_000  # numbers in all tags; a picture has two per strip or tile
_MOST_READ = 16  # values of one tag
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_BYTES = {1, 2, 6, 7}  # types whose values are read as one string
_NUMBERS = {1: "B", 3: "H", 4: "I", 5: "II", 16: "Q"}  # byte, short, long, rational, long of 8 bytes
_RATIONAL = 5
_WIDTH, _HEIGHT, _STRIPS, _PER_PIXEL, _TILE_WIDTH, _TILE_HEIGHT, _TILES = 256, 257, 273, 277, 322, 323, 324

Tags = dict[int, tuple[float, ...]]
Bytes = bytes | memoryview


def tiff_structure(data: bytes) -> Structure:
    """Reads the structure of a TIFF. Raises ImageTooComplexError."""
    _check_tags(data)
    _check_pieces(data)
    return Structure(lambda: data)


def check_exif(block: Bytes) -> None:
    """Raises ImageTooComplexError if an EXIF block takes much longer to read than its size explains."""
    for _ in range(2):  # Pillow also removes the prefix twice
        block = block[6:] if block[:6] == b"Exif\0\0" else block
    _check_tags(block)


def looks_like_exif(block: Bytes) -> bool:
    """Whether a directory with a known type of value follows; a picture's own bytes do not look like that."""
    return any(kind in _SIZES for _, kind, _, _ in islice(_whole_entries(block), 1))


def read_tags(data: bytes, wanted: Collection[int]) -> tuple[Tags, dict[int, int]]:
    """Returns the first 16 values of each wanted tag, and how many values it has in all.

    Raises BrokenImageError if a tag occurs twice, because decoders differ in which one they take. Raises struct.error
    if the directory reaches beyond the end of the file.
    """
    order, word = _signs(data)
    if order + word == ">Q":
        raise UnsupportedImageError("Big-endian BigTIFF is not supported; save it as little-endian or plain TIFF.")
    tags: Tags = {}
    counts: dict[int, int] = {}
    for tag, kind, count, field in _entries(data):
        if tag not in wanted:
            continue
        if tag in tags or kind not in _NUMBERS:
            raise BrokenImageError(f"The TIFF's tag {tag} is there twice or is no number; save the image again.")
        source, place = field, 0
        if count * _SIZES[kind] > len(field):
            source, (place,) = data, struct.unpack(order + word, field)
        values = struct.unpack_from(order + min(count, _MOST_READ) * _NUMBERS[kind], source, place)
        if kind == _RATIONAL:
            values = tuple(top / bottom for top, bottom in zip(values[::2], values[1::2], strict=True))
        tags[tag] = values
        counts[tag] = count
    return tags, counts


def _check_tags(data: Bytes) -> None:
    total = values = 0
    for count, (_, kind, number, _) in enumerate(_whole_entries(data), 1):
        total += _SIZES.get(kind, 0) * number
        values += 0 if kind in _BYTES else number
        require(count <= _MOST_TAGS, "more than {} tags", _MOST_TAGS)
        require(values <= _MOST_VALUES, "more than {} values in its tags", _MOST_VALUES)
        require(total <= 2 * len(data), "tags that lie over one another")


def _check_pieces(data: bytes) -> None:
    """Raises ImageTooComplexError for more strips or tiles than the picture has room for; each is read by itself."""
    little = data[:2] == b"II"
    numbers, first = {}, {}
    for tag, kind, number, field in _whole_entries(data):
        numbers[tag] = number
        first[tag] = int.from_bytes(field[: _SIZES.get(kind, 0)], "little" if little else "big")
    width, height, each = first.get(_WIDTH, 1), first.get(_HEIGHT, 1), max(1, min(first.get(_PER_PIXEL, 1), 64))
    require(numbers.get(_STRIPS, 0) <= max(height, 1) * each, "more strips than rows")
    across = -(-width // max(first.get(_TILE_WIDTH, 1), 1))
    down = -(-height // max(first.get(_TILE_HEIGHT, 1), 1))
    require(numbers.get(_TILES, 0) <= max(across * down, 1) * each, "more tiles than its size has room for")


def _signs(data: Bytes) -> tuple[str, str]:
    """Returns struct's characters for the byte order and for offsets: 8 bytes in a BigTIFF, otherwise 4."""
    return "<" if data[:2] == b"II" else ">", "Q" if b"+" in bytes(data[2:4]) else "I"


def _whole_entries(data: Bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """As `_entries`, but stops at the end of the data."""
    with suppress(struct.error, OverflowError):
        yield from _entries(data)


def _entries(data: Bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Yields tag, type, number of values, and 4 or 8 bytes that hold the values or, if they do not fit, their offset.

    Raises struct.error or OverflowError if the directory reaches beyond the end of the data.
    """
    if bytes(data[:4]) not in HEADS:
        return
    order, word = _signs(data)
    big = word == "Q"
    (start,) = struct.unpack_from(order + word, data, 8 if big else 4)
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, start)
    start += 8 if big else 2
    entry = struct.Struct(order + ("HHQ8s" if big else "HHI4s"))
    whole = min(count, (len(data) - start) // entry.size)
    yield from entry.iter_unpack(memoryview(data)[start : start + whole * entry.size])
    if whole < count:
        raise struct.error("the directory is cut short")
