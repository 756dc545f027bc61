"""The metadata inside a photo of any format, as bytes: XMP packets, IPTC records and EXIF.

Pillow finds most of it without decoding the pixels. Read here is what it does not find: what stands behind the pixels
of a PNG, where ExifTool writes it, XMP in a GIF, and XMP of more than one JPEG segment. Pillow's own reader of IPTC
raises at the first broken record, and the records before it would be lost.
"""

import mmap
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import BinaryIO, TypeGuard

from PIL import Image, TiffImagePlugin

from labelwise.image import FORMATS
from serving.bulk.xmp.packet import LARGEST

_XMP, _EXTENDED_XMP = b"http://ns.adobe.com/xap/1.0/\0", b"http://ns.adobe.com/xmp/extension/\0"
_PHOTOSHOP = b"Photoshop 3.0\0"
_RAW_PROFILE = b"Raw profile type "
_GIF_XMP, _GIF_XMP_END = b"\x21\xff\x0bXMP DataXMP", b"\x01\xff\xfe"
_TIFF_XMP, _TIFF_IPTC, _TIFF_PHOTOSHOP = 700, 33723, 34377
_IRB_IPTC, _EXIF_IFD = 0x0404, 0x8769
_EXIF_TEXTS = {0x010E, 0x013B, 0x8298, 0x9286, 0x4746, 0x4749, *range(0x9C9B, 0x9CA0)}  # what `iptc_and_exif` reads


@dataclass
class Metadata:
    """`xmp`: packets, the most important first; `iptc`: IIM records; `exif`: values by tag, of all blocks together."""

    xmp: list[bytes] = field(default_factory=list)
    iptc: list[bytes] = field(default_factory=list)
    exif: dict[int, object] = field(default_factory=dict)
    exif_is_big_endian: bool = False

    def add_exif(self, exif: Image.Exif) -> None:
        self.exif_is_big_endian = exif.endian == ">"
        for values in (exif, exif.get_ifd(_EXIF_IFD) if _EXIF_IFD in exif else {}):
            for tag in _EXIF_TEXTS.intersection(values):
                self.exif.setdefault(tag, values[tag])


def read_metadata(file: str) -> Metadata:
    """The metadata that is not broken. Raises OSError if the file cannot be read."""
    found = Metadata()
    with open(file, "rb") as stream:  # noqa: PTH123
        start = stream.read(12)
        stream.seek(0)
        reader = _of_png if start.startswith(b"\x89PNG") else _of_gif if start.startswith(b"GIF8") else _of_other
        try:
            reader(stream, found)
        except Exception as error:  # Pillow's plugins raise all kinds of errors for broken files
            if isinstance(error, OSError) and error.errno is not None:  # the disk failed, not the parser
                raise
    return found


def _of_other(stream: BinaryIO, found: Metadata) -> None:
    Image.init()
    with Image.open(stream, formats=[name for name in (*FORMATS, "HEIF") if name in Image.OPEN]) as image:
        if hasattr(image, "applist"):
            _of_jpeg(image.applist, found)
        elif isinstance(image, TiffImagePlugin.TiffImageFile):
            _of_tiff(image, found)
        elif isinstance(packet := image.info.get("xmp"), bytes):
            found.xmp.append(packet)
        found.add_exif(image.getexif())


def _is_iptc(data: object) -> TypeGuard[bytes]:
    return isinstance(data, bytes) and data[:1] == b"\x1c"


def _of_jpeg(segments: list[tuple[str, bytes]], found: Metadata) -> None:
    packets = [data.removeprefix(_XMP) for name, data in segments if name == "APP1" and data.startswith(_XMP)]
    found.xmp += packets[:1]
    resources = [data.removeprefix(_PHOTOSHOP) for _, data in segments if data.startswith(_PHOTOSHOP)]
    found.iptc += _photoshop_iptc(b"".join(resources))
    parts = [data.removeprefix(_EXTENDED_XMP) for _, data in segments if data.startswith(_EXTENDED_XMP)]
    named = re.search(rb"HasExtendedXMP\W{1,4}([0-9A-Fa-f]{32})", packets[0]) if packets else None
    if named:
        found.xmp += _extended([part[32:] for part in parts if part[:32] == named[1]])


def _extended(parts: list[bytes]) -> list[bytes]:
    """XMP specification, part 3, section 1.1.3.1: each part has the length of the whole and its own offset."""
    if not parts:
        return []
    (length,) = struct.unpack_from(">I", parts[0])
    by_offset = sorted((struct.unpack_from(">I", part, 4)[0], part[8:]) for part in parts)
    whole = b"".join(data for _, data in by_offset)
    ends = [offset + len(data) for offset, data in by_offset]
    is_whole = [0, *ends] == [*(offset for offset, _ in by_offset), length]
    return [whole] if is_whole and length <= LARGEST else []


def _of_tiff(image: TiffImagePlugin.TiffImageFile, found: Metadata) -> None:
    tags = image.tag_v2._tagdata  # raw bytes: Adobe writes IPTC as 32-bit words, and Pillow's reader warns of them
    found.xmp += filter(None, [tags.get(_TIFF_XMP)])
    found.iptc += filter(_is_iptc, [tags.get(_TIFF_IPTC), *_photoshop_iptc(tags.get(_TIFF_PHOTOSHOP, b""))])


def _photoshop_iptc(resources: bytes) -> Iterator[bytes]:
    """IPTC among Photoshop's image resources: `8BIM`, a number, a padded name, a length, data padded to even."""
    at = 0
    while resources[at : at + 4] == b"8BIM":
        number, name = struct.unpack_from(">HB", resources, at + 4)
        at += 6 + (name + 2) // 2 * 2
        (length,) = struct.unpack_from(">I", resources, at)
        if number == _IRB_IPTC:
            yield resources[at + 4 : at + 4 + length]
        at += 4 + (length + 1) // 2 * 2


def _of_png(stream: BinaryIO, found: Metadata) -> None:
    for kind, data in _png_chunks(stream):
        with suppress(Exception):  # a broken chunk does not hide the others
            _of_png_chunk(kind, data, found)


def _of_png_chunk(kind: bytes, data: bytes, found: Metadata) -> None:
    keyword, _, rest = data.partition(b"\0")
    if kind == b"eXIf":
        found.add_exif(_exif_in(data))
    elif keyword == b"XML:com.adobe.xmp":
        found.xmp.append(_png_text(kind, rest))
    elif keyword.startswith(_RAW_PROFILE):
        _of_raw_profile(_raw_profile(_png_text(kind, rest)), keyword.removeprefix(_RAW_PROFILE).lower(), found)


def _of_raw_profile(profile: bytes, name: bytes, found: Metadata) -> None:
    """ImageMagick calls both EXIF and XMP `app1`, after the JPEG segment."""
    if name == b"xmp" or profile.startswith(_XMP):
        found.xmp.append(profile.removeprefix(_XMP))
    elif name in (b"exif", b"app1"):
        found.add_exif(_exif_in(profile))
    elif name in (b"iptc", b"8bim"):
        found.iptc += [profile] if _is_iptc(profile) else _photoshop_iptc(profile)


def _exif_in(data: bytes) -> Image.Exif:
    exif = Image.Exif()
    exif.load(data)
    return exif


def _png_chunks(stream: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """The chunks that may hold metadata, before and behind the pixels."""
    stream.seek(8)
    while len(head := stream.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind in (b"iTXt", b"zTXt", b"tEXt", b"eXIf") and length <= LARGEST:
            yield kind, stream.read(length)
            stream.seek(4, 1)
        elif kind == b"IEND":
            return
        else:
            stream.seek(length + 4, 1)


def _png_text(kind: bytes, rest: bytes) -> bytes:
    """The text of a chunk. After the keyword an iTXt has flags and two names, a zTXt the method of compression."""
    if kind == b"tEXt":
        return rest
    if kind == b"zTXt":
        return _inflated(rest[1:])
    is_compressed = rest[:1] == b"\1"
    text = rest[2:].split(b"\0", 2)[2]
    return _inflated(text) if is_compressed else text


def _inflated(data: bytes) -> bytes:
    return zlib.decompressobj().decompress(data, LARGEST)


def _raw_profile(text: bytes) -> bytes:
    """ImageMagick writes a line with the name, one with the length, and lines of hexadecimal digits."""
    return bytes.fromhex(text.strip().split(b"\n", 2)[2].decode("ascii"))


def _of_gif(stream: BinaryIO, found: Metadata) -> None:
    """XMP stands as plain text between these two marks; one packet is enough."""
    with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        start = data.find(_GIF_XMP) + len(_GIF_XMP)
        end = data.find(_GIF_XMP_END, start, start + LARGEST)
        if start >= len(_GIF_XMP) and end >= 0:
            found.xmp.append(data[start:end])
