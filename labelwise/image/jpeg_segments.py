"""The segments of JPEG: those before the picture, and the scans in it."""

import re
from collections.abc import Iterator

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
_SEQUENTIAL, _PROGRESSIVE, SCAN, _TABLES, _RESTART_INTERVAL = (0xC0, 0xC1), 0xC2, 0xDA, 0xDB, 0xDD
_END, _APP1, _APP2 = 0xD9, 0xE1, 0xE2


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
    plain = bool(scan) and kind in (*_SEQUENTIAL, _PROGRESSIVE) and len(exif) <= 1
    return Structure(lambda: data, count, place, pixels * scans, plain)


def _scans(data: bytes, place: int, kind: int, frame: bytes, scan: bytes) -> int:
    """Counts how often the decoder goes over the pixels: once, if the first scan has all components."""
    if kind in _SEQUENTIAL and scan[:1] == frame[5:6]:
        return 1
    scans, count = 1, 0
    while found := _MARKER_BUT_RESTART.search(data, place):
        marker, place = data[found.end() - 1], found.end()
        if marker == _END:
            break
        count += 1
        require(count <= _MOST_SEGMENTS, "more than {} segments among its scans", _MOST_SEGMENTS)
        scans += marker == SCAN
        require(scans <= _MOST_SCANS, "more than {} scans", _MOST_SCANS)
        if marker not in _BARE:
            place += int.from_bytes(data[place : place + 2], "big")
    return scans
