"""Reads the chunks of a PNG, and limits what they hold."""

import zlib
from collections.abc import Iterable, Iterator
from itertools import islice

from .cicp import Cicp
from .structure import Structure, require
from .tiff_tags import check_exif

_MOST_CHUNKS = 65_536  # some writers cut the picture into pieces of a kilobyte
_MOST_OTHERS = 4096  # chunks beside the picture's own
_LARGE = 2**16  # bytes of text; longer text is left out, as the picture does not need it
MOST_PROFILE = 8 * 2**20  # bytes of a colour profile; a monitor's has up to 4 million
_SMALL_PROFILE = MOST_PROFILE // 1032  # bytes when deflated, which shrinks to 1/1032 at best
_PICTURE = {b"IDAT", b"fdAT"}
_TEXT = {b"tEXt", b"zTXt", b"iTXt"}
_PROFILE, _OLD_EXIF = b"iCCP", b"Raw profile type exif\0"
_PLAIN = {
    *(b"IHDR", b"sBIT", b"PLTE", b"tRNS", b"gAMA", b"cHRM", b"sRGB", _PROFILE),
    *(b"pHYs", b"tIME", b"bKGD", b"eXIf", b"IEND"),
}


def png_structure(data: bytes, most: int = _MOST_CHUNKS) -> Structure:
    """Reads the structure of a PNG. Raises ImageTooComplexError, also for more than `most` chunks."""
    count, others, metadata, plain = 0, 0, 0, True
    optional: list[tuple[int, int]] = []
    for kind, start, end in chunks(data):
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
    return Structure(lambda: _without(data, _unneeded(data, optional)), metadata, pixels, plain)


def chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yields kind, start and end of each chunk, including its length and checksum. The last may be truncated."""
    start = 8
    while start + 8 <= len(data):
        end = min(start + 12 + int.from_bytes(data[start : start + 4], "big"), len(data))
        yield data[start + 4 : start + 8], start, end
        start = end


def read_png_cicp(data: bytes) -> Cicp | None:
    """Returns what the cICP chunk says. It comes before the picture, so the search ends there."""
    for kind, start, end in islice(chunks(data), _MOST_OTHERS):
        if kind == b"cICP" and end - start == 16:
            return Cicp(data[start + 8], data[start + 9])
        if kind in (b"IDAT", b"IEND"):
            break
    return None


def _unneeded(data: bytes, optional: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yields what the decoder can do without: huge profiles, and text that is not EXIF in its old form.

    Pillow refuses the whole picture if text or a profile unpacks to more than MAX_TEXT_CHUNK.
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
    """Whether `text` is a short EXIF block in hexadecimal, after a line with its name and one with its length."""
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
    """`profile` is the content of iCCP: a name, a zero, the method 0 and deflated bytes."""
    if len(profile) < _SMALL_PROFILE:
        return False
    try:
        return len(zlib.decompressobj().decompress(profile[profile.find(b"\0") + 2 :], most + 1)) > most
    except zlib.error:
        return True


def _without(data: bytes, parts: Iterable[tuple[int, int]]) -> bytes:
    pieces, place = [], 0
    for start, end in parts:
        pieces.append(data[place:start])
        place = end
    return b"".join([*pieces, data[place:]]) if pieces else data
