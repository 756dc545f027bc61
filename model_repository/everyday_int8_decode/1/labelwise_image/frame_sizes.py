"""Reads the sizes of the frames that an AVIF or HEIF makes a decoder allocate, from the frames' own headers.

The container states a size, too, but nothing forces the frames to have it. The headers are those of the AV1
specification, section 5.5, and of ITU-T H.265, section 7.3.2.2.
"""

import struct
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from math import prod

from .isobmff import FULL, IsoBox, IsoFile, TooManyBoxes, find

_AV1, _HEVC = b"av01", (b"hvc1", b"hev1")
_SEQUENCE_HEADER, _PARAMETERS = 1, 33  # of AV1 and of HEVC
_SAMPLE_TABLE = (b"mdia", b"minf", b"stbl")
_MOST_HEADERS, _MOST_BYTES = 64, 256  # headers of a frame, which usually has one; and bytes read of each

Size = tuple[int, int]


class UnreadableFrames(Exception):
    """The frames' headers are damaged, or there are more than a photo needs."""


class _Bits:
    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data, "big"), 8 * len(data)

    def read(self, count: int) -> int:
        """Raises IndexError at the end."""
        if count > self._left:
            raise IndexError
        self._left -= count
        return self._value >> self._left & (1 << count) - 1

    def exponential_golomb(self) -> int:
        zeros = 0
        while not self.read(1):
            zeros += 1
        return (1 << zeros) - 1 + self.read(zeros)


@dataclass(frozen=True)
class Frames:
    """The sizes (width, height) of the frames that make up one picture. A grid has a frame for each tile."""

    colour: list[Size]
    alpha: list[Size]

    @property
    def area(self) -> int:
        """Counts pixels. Alpha counts a quarter, since it is one plane of four."""
        return sum(map(prod, self.colour)) + sum(map(prod, self.alpha)) // 4


def read_frames(data: bytes) -> Frames:
    """Reads the frames' own headers. Raises UnreadableFrames.

    A file may hold a picture and a sequence, whose first frames count. Returns the larger of the two.
    """
    file = IsoFile(data)
    try:
        return max(_of_items(file), _of_tracks(file), key=lambda frames: frames.area)
    except (TooManyBoxes, struct.error, IndexError) as error:
        raise UnreadableFrames from error


def _of_items(file: IsoFile) -> Frames:
    """Reads the frames of the primary item, of its sources, and of the items auxiliary to these."""
    sources: defaultdict[int, list[int]] = defaultdict(list)
    for item, found in file.references(b"dimg"):
        sources[item] += found
    colour = _with_sources(file, [] if file.primary is None else [file.primary], sources)
    auxiliary = [item for item, pictures in file.references(b"auxl") if not colour.isdisjoint(pictures)]
    alpha = _with_sources(file, auxiliary, sources) - colour
    room = len(file.data)
    sizes: tuple[list[Size], list[Size]] = [], []
    for place, number in [*((0, item) for item in colour), *((1, item) for item in alpha)]:
        kind, pieces = file.kinds.get(number), file.extents.get(number, [])
        if kind == _AV1 or kind in _HEVC:
            room -= sum(end - start for start, end in pieces)
            if room < 0:
                raise UnreadableFrames  # the items share their bytes
            coded = b"".join(file.data[start:end] for start, end in pieces)
            sizes[place].append(_of_av1(file, coded) if kind == _AV1 else _of_hevc(file, number, coded))
    return Frames(*sizes)


def _with_sources(file: IsoFile, items: list[int], sources: dict[int, list[int]]) -> set[int]:
    found, waiting = set(items), list(items)
    while waiting:
        for item in sources.get(waiting.pop(), ()):
            file.step()
            if item not in found:
                found.add(item)
                waiting.append(item)
    return found


def _of_tracks(file: IsoFile) -> Frames:
    """Reads the first frame of each AV1 track; the first track holds the colours."""
    tracks = [box for box in file.descend(file.top(), b"moov") if box.kind == b"trak"]
    sizes = [_of_av1(file, sample) for track in tracks if (sample := _first_sample(file, track))]
    return Frames(sizes[:1], sizes[1:])


def _first_sample(file: IsoFile, box: IsoBox) -> bytes:
    table = file.descend(file.inside(box.start, box.end), *_SAMPLE_TABLE)
    sizes, places = find(table, b"stsz"), find(table, b"stco") or find(table, b"co64")
    if sizes is None or places is None:
        return b""
    every, _, first = struct.unpack_from(">III", file.data, sizes.start + FULL)
    (place,) = struct.unpack_from(">I" if places.kind == b"stco" else ">Q", file.data, places.start + FULL + 4)
    return file.data[place : place + (every or first)]


def _of_av1(file: IsoFile, coded: bytes) -> Size:
    """Returns the largest size in the sequence headers among the open bitstream units."""
    headers, place = [], 0
    while place < len(coded):
        file.step()
        head = coded[place]
        place += 2 if head & 4 else 1
        size, place = _leb128(coded, place) if head & 2 else (len(coded) - place, place)
        if head >> 3 & 15 == _SEQUENCE_HEADER:
            headers.append(coded[place : place + min(size, _MOST_BYTES)])
        place += size
    return _largest(headers, _av1_size)


def _of_hevc(file: IsoFile, number: int, coded: bytes) -> Size:
    """Returns the largest size in the parameter sets, in the item's configuration and among its coded units."""
    configuration = find(file.properties(number), b"hvcC")
    if configuration is None:
        raise UnreadableFrames
    data, place = file.data, configuration.start + 22
    length_size, arrays = (data[place - 1] & 3) + 1, data[place]
    units = []
    place += 1
    for _ in range(arrays):
        (count,) = struct.unpack_from(">H", data, place + 1)
        place += 3
        for _ in range(count):
            file.step()
            (size,) = struct.unpack_from(">H", data, place)
            units.append(data[place + 2 : place + 2 + min(size, _MOST_BYTES)])
            place += 2 + size
    place = 0
    while place + length_size < len(coded):
        file.step()
        size = int.from_bytes(coded[place : place + length_size], "big")
        place += length_size
        units.append(coded[place : place + min(size, _MOST_BYTES)])
        place += size
    return _largest([_unescaped(unit) for unit in units if _is_parameters(unit)], _hevc_size)


def _is_parameters(unit: bytes) -> bool:
    """Whether the unit is a parameter set of the only layer that is decoded."""
    head = int.from_bytes(unit[:2], "big")
    return head >> 9 & 63 == _PARAMETERS and head >> 3 & 63 == 0


def _largest(headers: list[bytes], size: Callable[[_Bits], Size]) -> Size:
    if not 0 < len(headers) <= _MOST_HEADERS:
        raise UnreadableFrames
    return max((size(_Bits(header)) for header in headers), key=prod)


def _leb128(data: bytes, place: int) -> tuple[int, int]:
    value = 0
    for turn in range(8):
        byte = data[place + turn]
        value |= (byte & 127) << 7 * turn
        if byte < 128:
            return value, place + turn + 1
    raise IndexError


def _unescaped(unit: bytes) -> bytes:
    return unit.replace(b"\0\0\3", b"\0\0")


def _av1_size(bits: _Bits) -> Size:
    bits.read(4)  # profile, still picture
    if bits.read(1):  # reduced header
        bits.read(5)
    else:
        _skip_av1_operation(bits)
    widths, heights = bits.read(4) + 1, bits.read(4) + 1
    return bits.read(widths) + 1, bits.read(heights) + 1


def _skip_av1_operation(bits: _Bits) -> None:
    """Skips what a sequence header says about timing and operating points."""
    delay_bits = 0
    if bits.read(1):  # timing
        bits.read(64)
        if bits.read(1):
            bits.exponential_golomb()
        if bits.read(1):  # the decoder's model
            delay_bits = bits.read(5) + 1
            bits.read(42)
    display_delay = bits.read(1)
    for _ in range(bits.read(5) + 1):
        bits.read(12)
        if bits.read(5) > 7:
            bits.read(1)
        if delay_bits and bits.read(1):
            bits.read(2 * delay_bits + 1)
        if display_delay and bits.read(1):
            bits.read(4)


def _hevc_size(bits: _Bits) -> Size:
    bits.read(16 + 4)  # the unit's head, the video parameter set
    layers = bits.read(3)
    bits.read(1 + 88)  # nesting, the general profile
    bits.read(8)
    present = [(bits.read(1), bits.read(1)) for _ in range(layers)]
    if layers:
        bits.read(2 * (8 - layers))
    for profile, level in present:
        bits.read(88 * profile + 8 * level)
    bits.exponential_golomb()
    if bits.exponential_golomb() == 3:  # 4:4:4
        bits.read(1)
    return bits.exponential_golomb(), bits.exponential_golomb()
