"""The structure of PNG, GIF and BMP."""

import zlib
from collections.abc import Iterable, Iterator

from .structure import Structure, require
from .tags import check_exif

_MOST_CHUNKS = 65_536  # of PNG; some writers cut the picture into pieces of a kilobyte
_MOST_OTHERS = 4096  # chunks of PNG beside the picture's own
_LARGE = 2**16  # bytes of text or of extensions; more are left out, as the picture does not need them
MOST_PROFILE = 8 * 2**20  # bytes of a colour profile; the largest of monitors have 4 million
_MOST_BLOCKS = 200_000  # of GIF, before its picture
_SMALL_PROFILE = MOST_PROFILE // 1032  # bytes as deflated, which shrinks to 1/1032 at best
_PICTURE = {b"IDAT", b"fdAT"}
_TEXT = {b"tEXt", b"zTXt", b"iTXt"}
_PROFILE, _OLD_EXIF = b"iCCP", b"Raw profile type exif\0"
_PLAIN = {
    b"IHDR",
    b"sBIT",
    b"PLTE",
    b"tRNS",
    b"gAMA",
    b"cHRM",
    b"sRGB",
    _PROFILE,
    b"pHYs",
    b"tIME",
    b"bKGD",
    b"eXIf",
    b"IEND",
}
_GIF_IMAGE, _GIF_EXTENSION, _GIF_CONTROL = 0x2C, 0x21, 0xF9
_RLE = (1, 2)  # BMP's compressions


def png(data: bytes, most: int = _MOST_CHUNKS) -> Structure:
    """The structure of a PNG; looks at no more than `most` chunks. Raises ImageTooComplexError."""
    count, others, metadata, plain = 0, 0, 0, True
    optional: list[tuple[int, int]] = []
    for kind, start, end in _chunks(data):
        count += 1
        require(count <= most, "more than {} chunks", most)
        if kind in _PICTURE:
            continue
        others += 1
        require(others <= _MOST_OTHERS, "more than {} chunks beside the picture", _MOST_OTHERS)
        metadata += end - start
        plain = plain and (kind in _PLAIN or kind in _TEXT)
        if kind == b"eXIf":
            check_exif(data[start + 8 : end - 4])
        elif kind in _TEXT or kind == _PROFILE:
            optional.append((start, end))
            plain = plain and (kind != _PROFILE or end - start < _SMALL_PROFILE)
    pixels = int.from_bytes(data[16:20], "big") * int.from_bytes(data[20:24], "big")
    return Structure(lambda: _without(data, _unneeded(data, optional)), count, metadata, pixels, plain)


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yields kind, start and end of each chunk, its length and its checksum included."""
    start = 8
    while start + 8 <= len(data):
        end = min(start + 12 + int.from_bytes(data[start : start + 4], "big"), len(data))
        yield data[start + 4 : start + 8], start, end
        start = end


def _unneeded(data: bytes, optional: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yields what the decoder can do without: text, unless it is EXIF as it once was written, and huge profiles.

    Pillow refuses the whole picture for text or a profile that unpacks to more than MAX_TEXT_CHUNK.
    """
    profiles = 0
    for start, end in optional:
        kind, content = data[start + 4 : start + 8], data[start + 8 : end - 4]
        if kind == _PROFILE:
            profiles += 1
            if profiles > 1 or _unpacks_to_more(content, MOST_PROFILE):
                yield start, end
        elif content.startswith(_OLD_EXIF) and kind != b"iTXt":
            if not _is_readable(content.removeprefix(_OLD_EXIF), kind == b"zTXt"):
                yield start, end
        elif kind != b"tEXt" or len(content) > _LARGE:
            yield start, end


def _is_readable(text: bytes, packed: bool) -> bool:
    """Whether it is a short EXIF block in hexadecimal, after a line with its name and one with its length."""
    try:
        if packed:
            text = zlib.decompressobj().decompress(text[1:], _LARGE + 1)
        if len(text) > _LARGE:
            return False
        check_exif(bytes.fromhex("".join(text.decode("latin-1").split("\n")[3:])))
    except (zlib.error, ValueError):
        return False
    return True


def _unpacks_to_more(profile: bytes, most: int) -> bool:
    """Given the contents of iCCP: a name, a zero, the method 0 and deflated bytes."""
    if len(profile) < _SMALL_PROFILE:
        return False
    try:
        return len(zlib.decompressobj().decompress(profile[profile.find(b"\0") + 2 :], most + 1)) > most
    except zlib.error:
        return True


def gif(data: bytes) -> Structure:
    """The structure of a GIF up to its first picture. Raises ImageTooComplexError."""
    flags = data[10] if len(data) > 10 else 0
    place = start = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    blocks, control = 0, (0, 0)
    while place + 1 < len(data) and data[place] != _GIF_IMAGE:
        begun, is_extension = place, data[place] == _GIF_EXTENSION
        place += 2 if is_extension else 1
        blocks += 1
        while is_extension and place < len(data) and data[place]:
            place += 1 + data[place]
            blocks += 1
            require(blocks <= _MOST_BLOCKS, "more than {} blocks before the picture", _MOST_BLOCKS)
        require(blocks <= _MOST_BLOCKS, "more than {} blocks before the picture", _MOST_BLOCKS)
        place += is_extension
        if is_extension and data[begun + 1] == _GIF_CONTROL:
            control = (begun, place)
    if place - start <= _LARGE:
        return Structure(lambda: data, blocks, place - start)
    return Structure(lambda: data[:start] + data[slice(*control)] + data[place:], blocks, place - start)


def bmp(data: bytes) -> Structure:
    """The structure of a BMP. What a run-length coded one has beyond its picture is left out."""
    width, height = (abs(int.from_bytes(data[at : at + 4], "little", signed=True)) for at in (18, 22))
    if int.from_bytes(data[30:34], "little") not in _RLE:
        return Structure(lambda: data, 1, work=width * height)
    # At worst a pixel takes a run of its own, two bytes, and each row two more for its end.
    end = int.from_bytes(data[10:14], "little") + 2 * (width + 4) * (height + 4)
    return Structure(lambda: data[:end], 1, work=width * height)


def _without(data: bytes, parts: Iterable[tuple[int, int]]) -> bytes:
    pieces, place = [], 0
    for start, end in parts:
        pieces.append(data[place:start])
        place = end
    return b"".join([*pieces, data[place:]]) if pieces else data
