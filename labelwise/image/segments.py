"""The structure of JPEG: segments before the picture, and scans in it."""

import re

from .structure import Structure, require
from .tags import check_exif

_MOST_SEGMENTS = 4096  # before the picture; 10 MB of XMP are 160
_MOST_TABLES = 64 * 2**10  # bytes of quantisation tables before the picture; a photo has up to 520
_MOST_EXIF = 64  # segments, which Pillow joins one by one
_MOST_RESOURCES = 20_000  # of Photoshop's
_MOST_SCANS = 256  # a camera's progressive photo has 10
_MOST_WORK = 20 * 64_000_000  # pixels times scans
_MARKER = re.compile(rb"\xff[\x01-\xfe]")
_AMONG_SCANS = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # neither an escaped 0xFF nor a restart marker
_BARE = {0x01, *range(0xD0, 0xDA)}  # markers without a length
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_SEQUENTIAL, _PROGRESSIVE, _END, _SCAN, _TABLES, _APP1, _APP2 = (0xC0, 0xC1), 0xC2, 0xD9, 0xDA, 0xDB, 0xE1, 0xE2


def jpeg(data: bytes, most: int = _MOST_SEGMENTS) -> Structure:
    """The structure of a JPEG; looks at no more than `most` segments. Raises ImageTooComplexError."""
    place, count, tables, frame = 2, 0, 0, b""
    kind, scan = 0, b""
    exif: list[bytes] = []
    while not scan and (found := _MARKER.search(data, place)):
        marker = data[found.end() - 1]
        count += 1 + found.start() - place  # what stands between segments is read byte by byte
        require(count <= most, "more than {} segments", most)
        place = found.end()
        if marker in _BARE:
            continue
        body = data[place + 2 : place + max(int.from_bytes(data[place : place + 2], "big"), 2)]
        place += 2 + len(body)
        tables += len(body) if marker == _TABLES else 0
        require(tables <= _MOST_TABLES, "more than {} KiB of tables", _MOST_TABLES // 1024)
        if marker in _FRAMES:
            kind, frame = marker, body
        elif marker == _APP1 and body.startswith(b"Exif\0\0"):
            exif.append(body[6:] if exif else body)
        elif marker == _APP2 and body.startswith(b"MPF\0"):
            check_exif(body[4:])  # a directory of tags as EXIF's
        elif marker == _SCAN:
            scan = body
    require(len(exif) <= _MOST_EXIF, "more than {} blocks of EXIF", _MOST_EXIF)
    check_exif(b"".join(exif))
    require(data.count(b"8BIM", 0, place) <= _MOST_RESOURCES, "more than {} resources of Photoshop's", _MOST_RESOURCES)
    scans = _scans(data, place, kind, frame, scan)
    pixels = int.from_bytes(frame[1:3], "big") * int.from_bytes(frame[3:5], "big")
    require(pixels * scans <= _MOST_WORK, "more scans than its size explains")
    plain = bool(scan) and kind in (*_SEQUENTIAL, _PROGRESSIVE) and len(exif) <= 1
    return Structure(lambda: data, count, place, pixels * scans, plain)


def _scans(data: bytes, place: int, kind: int, frame: bytes, scan: bytes) -> int:
    """How often the decoder goes over the pixels: once, if the first scan has all there is."""
    if kind in _SEQUENTIAL and scan[:1] == frame[5:6]:
        return 1
    scans, count = 1, 0
    while found := _AMONG_SCANS.search(data, place):
        marker, place = data[found.end() - 1], found.end()
        if marker == _END:
            break
        count += 1
        require(count <= _MOST_SEGMENTS, "more than {} segments among its scans", _MOST_SEGMENTS)
        scans += marker == _SCAN
        require(scans <= _MOST_SCANS, "more than {} scans", _MOST_SCANS)
        if marker not in _BARE:
            place += int.from_bytes(data[place : place + 2], "big")
    return scans
