"""JPEG: limits its segments, decodes it, at a reduced scale if that is enough, and detects a truncated one.

A decoder fills the missing part of a truncated file with grey, and libjpeg's warning about it does not reach Python. A
decoder also refuses some files that lack only the end marker. So the question is whether the picture depends on bytes
that the file does not have: the file is decoded with two different endings, and both must give the same picture.
"""

import hashlib
import io
import re
from collections.abc import Iterator

from PIL import Image
from PIL.ImageFile import _Tile
from PIL.JpegImagePlugin import JpegImageFile  # the class of MPO, Ultra HDR and plain JPEG alike

from .structure import Structure, require
from .tiff_tags import check_exif

_MOST_SEGMENTS = 4096  # before the picture; 10 MB of XMP take 160
_MOST_TABLES = 64 * 2**10  # bytes of quantisation tables before the picture; a photo has up to 520
_MOST_EXIF = 64  # segments; Pillow joins them one by one
_MOST_RESOURCES = 20_000  # Photoshop's
_MOST_SCANS = 256  # a camera's progressive photo has 10
_MOST_WORK = 20 * 64_000_000  # pixels times scans
_MARKER = re.compile(rb"\xff[\x01-\xfe]")  # not an escaped 0xFF
_MARKER_BUT_RESTART = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_BARE = {0x01, *range(0xD0, 0xDA)}  # markers without a length field
_LONG = {*range(0x01, 0xFF)} - _BARE  # and those with one
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_SEQUENTIAL, _PROGRESSIVE, _ARITHMETIC = {0xC0, 0xC1}, {0xC2, 0xCA}, {0xC9, 0xCA}
END, SCAN = 0xD9, 0xDA
_TABLES, _RESTART_INTERVAL, _APP1, _APP2 = 0xDB, 0xDD, 0xE1, 0xE2
_END_MARKER = b"\xff\xd9"
_BEYOND_LIBJPEG = {
    **dict.fromkeys((0xC3, 0xCB), "lossless coding"),
    **dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF), "hierarchical coding"),
    0xF7: "JPEG-LS",
}
_FILL = bytes(16)  # a longer run of zeros at the end comes from a broken download, not from a picture
# Two endings that differ in every bit. Their restart markers let them continue a picture that has some. If a marker is
# one or two places early, libjpeg assumes that others are lost and leaves grey before it: hence two orders of them.
_BITS = bytes(1 + 89 * place % 254 for place in range(64))
_ENDINGS = tuple(
    b"".join(bits + bytes((0xFF, 0xD0 + (first + turn) % 8)) for turn in range(8)) + bits + _END_MARKER
    for bits, first in ((_BITS, 0), (bytes(255 - byte for byte in _BITS), 4))
)


def segments(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yields each marker with its place and its bytes, and skips the scans' data.

    Restart markers belong to a scan's data if the file has defined their interval; otherwise they end the scan.
    """
    place, pattern, last = 2, _MARKER, len(data) - 1
    while place < last:
        if data[place] == 0xFF and data[place + 1] in _LONG:
            start = place  # nearly always so before the scans; spares the search
        elif found := pattern.search(data, place):
            start = found.start()
        else:
            return
        marker, place = data[start + 1], start + 2
        if marker in _BARE:
            yield marker, start, b""
            continue
        body = data[place + 2 : place + int.from_bytes(data[place : place + 2], "big")]
        place += 2 + len(body)
        if marker == _RESTART_INTERVAL:
            pattern = _MARKER_BUT_RESTART if any(body) else _MARKER
        yield marker, start, body


def jpeg_structure(data: bytes, most: int = _MOST_SEGMENTS) -> Structure:
    """Reads the structure of a JPEG. Raises ImageTooComplexError, also for more than `most` segments."""
    place, count, tables, frame = 2, 0, 0, b""
    kind, scan = 0, b""
    exif: list[bytes] = []
    for marker, start, body in segments(data):
        count += 1 + start - place  # a decoder reads what is between segments byte by byte
        if count > most or tables > _MOST_TABLES:
            break  # refused below
        place = start + 2 if marker in _BARE else start + 4 + len(body)
        if marker == _TABLES:
            tables += len(body)
        elif marker in FRAMES:
            kind, frame = marker, body
        elif marker == _APP1 and body.startswith(b"Exif\0\0"):
            exif.append(body[6:] if exif else body)
        elif marker == _APP2 and body.startswith(b"MPF\0"):
            check_exif(body[4:])  # a directory of tags, as in EXIF
        elif marker == SCAN:
            scan = body
            break
    require(count <= most, "more than {} segments", most)
    require(tables <= _MOST_TABLES, "more than {} KiB of tables", _MOST_TABLES // 1024)
    if exif:
        require(len(exif) <= _MOST_EXIF, "more than {} blocks of EXIF", _MOST_EXIF)
        check_exif(b"".join(exif))
    require(data.count(b"8BIM", 0, place) <= _MOST_RESOURCES, "more than {} resources of Photoshop's", _MOST_RESOURCES)
    scans = _scans(data, place, kind, frame, scan)
    pixels = int.from_bytes(frame[1:3], "big") * int.from_bytes(frame[3:5], "big")
    require(pixels * scans <= _MOST_WORK, "more scans than its size explains")
    plain = bool(scan) and kind in {*_SEQUENTIAL, 0xC2} and len(exif) <= 1
    return Structure(lambda: data, place, pixels * scans, plain)


def _scans(data: bytes, place: int, kind: int, frame: bytes, scan: bytes) -> int:
    """Counts how often the decoder goes over the pixels: once, if the first scan has all components."""
    if kind in _SEQUENTIAL and scan[:1] == frame[5:6]:
        return 1
    scans, count = 1, 0
    while found := _MARKER_BUT_RESTART.search(data, place):
        marker, place = data[found.end() - 1], found.end()
        if marker == END:
            break
        count += 1
        require(count <= _MOST_SEGMENTS, "more than {} segments among its scans", _MOST_SEGMENTS)
        scans += marker == SCAN
        require(scans <= _MOST_SCANS, "more than {} scans", _MOST_SCANS)
        if marker not in _BARE:
            place += int.from_bytes(data[place : place + 2], "big")
    return scans


def load_jpeg(image: JpegImageFile, data: bytes) -> None:
    """Decodes `image`, opened from `data`. Raises OSError if rows are missing, and whatever Pillow raises."""
    tile = image.tile
    if data.endswith(_END_MARKER) or data.rfind(_END_MARKER) > _start_of_scans(data):
        try:
            _load(image, tile, data)
            if not _ends_in_grey(image) or _is_arithmetic(data):
                return
        except OSError:
            pass  # a missing end marker does no harm; any other fault shows below
    end = _end_of_scans(data)
    if end is None or not _load_whole(image, tile, data[:end].rstrip(b"\xff")):
        raise OSError("The last rows are missing.")


def keeps_coefficients(image: JpegImageFile, data: bytes) -> bool:
    """Whether libjpeg keeps the whole photo's coefficients at any scale, because the photo has several scans."""
    if image.info.get("progressive"):
        return True
    components = _start_of_scans(data) + 4
    return data[components : components + 1] != bytes([image.layers])


def unsupported_coding(data: bytes) -> str | None:
    """Names what the JPEG `data` uses that libjpeg or Pillow cannot decode, or None if nothing is known."""
    for marker, _, body in segments(data):
        if marker in _BEYOND_LIBJPEG:
            return _BEYOND_LIBJPEG[marker]
        if marker in FRAMES and len(body) >= 9:
            if body[0] != 8:
                return f"a depth of {body[0]} bits"
            if body[1:3] == b"\0\0":
                return "a height that follows the picture"
            if body[5] not in (1, 3, 4):
                return f"a picture of {body[5]} components"
            return _unsupported_sampling(body[7::3])
    return None


def _unsupported_sampling(factors: bytes) -> str | None:
    """`factors` hold the horizontal and vertical sampling of each component, four bits each."""
    for sides in ([factor >> 4 for factor in factors], [factor & 15 for factor in factors]):
        if any(side == 0 or max(sides) % side for side in sides):
            return "subsampling by a fraction"
    return None


def _load_whole(image: JpegImageFile, tile: list[_Tile], scans: bytes) -> bool:
    """Decodes a file that ends after its last scan, and returns whether it has every row."""
    if not scans.endswith(_FILL):
        return _is_whole(image, tile, scans)
    # Zeros are also codes: they may fill a truncated file, or end a picture of one colour.
    filled = scans.rstrip(b"\0")
    escape = filled.endswith(b"\xff")
    return (
        _is_whole(image, tile, filled + bytes(escape))
        or _is_whole(image, tile, filled + bytes(escape + 1))
        or (not _is_whole(image, tile, scans[: -len(_FILL)]) and _is_whole(image, tile, scans))
    )


def _is_whole(image: JpegImageFile, tile: list[_Tile], scans: bytes) -> bool:
    # What a progressive file lacks may be too fine to show at a reduced scale. libjpeg holds it at full size anyway.
    sample = JpegImageFile(io.BytesIO(scans)) if image.info.get("progressive") else image
    pictures, sampled = set(), sample.tile if sample is not image else tile
    for ending in _ENDINGS:
        _load(sample, sampled, scans + ending)
        pictures.add(hashlib.sha256(sample.tobytes()).digest())
    if sample is not image:
        _load(image, tile, scans + _END_MARKER)
    return len(pictures) == 1


def _load(image: JpegImageFile, tile: list[_Tile], data: bytes) -> None:
    image.tile = list(tile)
    image.fp = io.BytesIO(data)
    image.decodermaxblock = len(data)  # libjpeg cannot pause in arithmetic-coded data
    image.load()


def _is_arithmetic(data: bytes) -> bool:
    """Whether the coding is arithmetic: then endless zeros follow the data (T.81, D.2), and nothing turns grey."""
    return next((marker in _ARITHMETIC for marker, _, _ in segments(data) if marker in FRAMES), False)


def _ends_in_grey(image: Image.Image) -> bool:
    """Whether the last pixel has the grey that libjpeg puts in place of missing data."""
    last = image.getpixel((image.width - 1, image.height - 1))
    return all(value in (127, 128) for value in (last if isinstance(last, tuple) else (last,)))


def _end_of_scans(data: bytes) -> int | None:
    """Returns where the last scan's data end, or None if a component or some of its bits have no scan."""
    missing: set[tuple[int, int]] | None = None  # component, coefficient
    progressive = False
    for marker, start, body in segments(data):
        if missing is not None and not missing:
            return start
        if marker in FRAMES and missing is None:
            progressive = marker in _PROGRESSIVE
            missing = {(name, place) for name in body[6::3] for place in range(64 if progressive else 1)}
        elif marker == SCAN and missing is not None and len(body) >= 6:
            first, last, bits = body[-3:]
            places = range(first, last + 1) if progressive else range(1)
            if not progressive or not bits & 15:  # the lowest bit comes with this scan
                missing -= {(name, place) for name in body[1:-3:2] for place in places}
        elif marker == END:
            return None
    return len(data) if missing is not None and not missing else None


def _start_of_scans(data: bytes) -> int:
    return next((start for marker, start, _ in segments(data) if marker == SCAN), len(data))
