"""Files with more pieces than a photo has are refused before a decoder opens them; large but valid ones are decoded.

The sizes are harmless: each file is a little beyond its limit, and without the limit it would decode in a moment.
"""

import io
import os
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from labelwise.image import ImageTooComplexError, load_photo, load_pixels, ordinary
from labelwise.image.complexity import opening_pixels, read_structure
from tests.conftest import ROOT

SIDE = 32
PICTURE = Image.open(ROOT / "tests/assets/photos/sunset-bay-palm.jpg").convert("RGB").resize((64, 48))


def encoded(kind: str, picture: Image.Image = PICTURE, **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


JPEG, PNG, GIF, WEBP, TIFF, AVIF = map(encoded, ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "AVIF"))
GIF_HEAD = 13 + (3 << (GIF[10] & 7) + 1)


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def in_png(added: bytes) -> bytes:
    return PNG[:33] + added + PNG[33:]


def segment(marker: int, data: bytes = b"") -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def in_jpeg(added: bytes) -> bytes:
    return JPEG[:2] + added + JPEG[2:]


def in_gif(added: bytes) -> bytes:
    return GIF[:GIF_HEAD] + added + GIF[GIF_HEAD:]


def riff(kind: bytes, data: bytes = b"") -> bytes:
    return kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def in_webp(flags: int, added: bytes) -> bytes:
    size = struct.pack("<I", PICTURE.width - 1)[:3] + struct.pack("<I", PICTURE.height - 1)[:3]
    body = riff(b"VP8X", struct.pack("<I", flags) + size) + WEBP[12:] + added
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def directory(tags: list[tuple[int, int, int, int]]) -> bytes:
    """A TIFF directory: tag, type, number of values, value."""
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)


def tiff(*more: tuple[int, int, int, int], strips: int = 1) -> bytes:
    """64 by 48 grey pixels, with further tags."""
    shape = [(256, 3, 1, 64), (257, 3, 1, 48), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, strips, 8)]
    return directory([*shape, (277, 3, 1, 1), (278, 3, 1, 48), (279, 4, 1, 3072), *more]) + bytes(4000)


def big_tiff_marked_as_avif(tags: int) -> bytes:
    """Pillow ignores bytes 4 to 7 of a BigTIFF."""
    entries = struct.pack("<HHQQ", 50_000, 3, 1, 1) * tags
    return b"II+\0ftyp" + struct.pack("<QQ", 16, tags) + entries + bytes(4000)


def overlapping(tags: int = 100) -> bytes:
    """EXIF whose tags share one long value, which a reader copies for each."""
    block = directory([(1000 + number, 7, 5000, 4) for number in range(tags)])
    return block + bytes(6000 - len(block))


def box(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", 8 + len(data)) + kind + data


def avif_with_items(count: int) -> bytes:
    """Entries for more items than the file has, in the box that lists them."""
    entry = box(b"infe", b"\2\0\0\0" + struct.pack(">HH", 99, 0) + b"mime\0")
    start = AVIF.index(b"iinf") - 4
    (size,) = struct.unpack_from(">I", AVIF, start)
    grown = size + count * len(entry)
    at = AVIF.index(b"meta") - 4
    (whole,) = struct.unpack_from(">I", AVIF, at)
    data = AVIF[: start + size] + entry * count + AVIF[start + size :]
    data = data[:start] + struct.pack(">I", grown) + data[start + 4 :]
    return data[:at] + struct.pack(">I", whole + count * len(entry)) + data[at + 4 :]


def with_many_scans() -> bytes:
    photo = encoded("JPEG", progressive=True)
    last = photo[photo.rindex(b"\xff\xda") : -2]
    return photo[:-2] + last * 300 + photo[-2:]


TOO_COMPLEX: dict[str, tuple[Callable[[], bytes], str]] = {
    "PNG: text": (lambda: in_png(chunk(b"tEXt", b"a\0b") * 4100), "4096 chunks"),
    "PNG: private chunks": (lambda: in_png(chunk(b"prVt") * 4100), "4096 chunks"),
    "PNG: chunks behind the picture": (lambda: PNG[:-12] + chunk(b"prVt") * 4100 + PNG[-12:], "4096 chunks"),
    "PNG: a picture in too many pieces": (lambda: in_png(chunk(b"IDAT") * 66_000), "65536 chunks"),
    "PNG: EXIF": (lambda: in_png(chunk(b"eXIf", overlapping())), "over one another"),
    "APNG: frames": (
        lambda: in_png(chunk(b"acTL", struct.pack(">II", 4100, 0)) + chunk(b"fcTL", bytes(26)) * 4100),
        "4096 chunks",
    ),
    "JPEG: empty segments": (lambda: in_jpeg(segment(0xE5) * 4100), "4096 segments"),
    "JPEG: fill bytes": (lambda: in_jpeg(b"\xff" * 5000), "4096 segments"),
    "JPEG: junk": (lambda: in_jpeg(segment(0xE5) + bytes(5000)), "4096 segments"),
    "JPEG: tables": (lambda: in_jpeg(segment(0xDB, (b"\0" + bytes(64)) * 600) * 2), "64 KiB of tables"),
    "JPEG: EXIF in pieces": (lambda: in_jpeg(segment(0xE1, b"Exif\0\0more") * 70), "64 blocks"),
    "JPEG: EXIF": (lambda: in_jpeg(segment(0xE1, b"Exif\0\0" + overlapping())), "over one another"),
    "JPEG: segments, the first marked as AVIF": (
        lambda: in_jpeg(b"\xff\xe5ftyp" + bytes(0x6674 - 4) + segment(0xE5) * 4100),  # "ft" is its length
        "4096 segments",
    ),
    "JPEG: EXIF with its prefix twice": (
        lambda: in_jpeg(segment(0xE1, b"Exif\0\0Exif\0\0" + overlapping())),
        "over one another",
    ),
    "MPO: its directory": (lambda: in_jpeg(segment(0xE2, b"MPF\0" + overlapping())), "over one another"),
    "JPEG: Photoshop's resources": (
        lambda: in_jpeg(segment(0xED, b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0\0\0\0\0" * 5000) * 5),
        "20000 resources",
    ),
    "JPEG: scans": (with_many_scans, "256 scans"),
    "JPEG: segments among its scans": (
        lambda: encoded("JPEG", progressive=True)[:-2] + segment(0xE5) * 4100,
        "4096 segments among its scans",
    ),
    "GIF: comments": (lambda: in_gif(b"\x21\xfe\x01a\0" * 100_100), "200000 blocks"),
    "GIF: pieces of a comment": (lambda: in_gif(b"\x21\xfe" + b"\x01a" * 200_100 + b"\0"), "200000 blocks"),
    "WebP: chunks": (lambda: in_webp(0, riff(b"JUNK") * 10_100), "10000 frames"),
    "WebP: EXIF": (lambda: in_webp(8, riff(b"EXIF", overlapping())), "over one another"),
    "TIFF: tags": (lambda: tiff(*[(50_000, 3, 1, 1)] * 4100), "4096 tags"),
    "BigTIFF: tags, marked as AVIF": (lambda: big_tiff_marked_as_avif(4100), "4096 tags"),
    "TIFF: values over one another": (lambda: tiff(*[(50_000 + i, 7, 3000, 8) for i in range(9)]), "over one another"),
    "TIFF: strips": (lambda: tiff(strips=100), "strips than rows"),
    "TIFF: tiles": (lambda: tiff((322, 3, 1, 64), (323, 3, 1, 48), (324, 4, 50, 8)), "tiles than its size"),
    "AVIF: items": (lambda: avif_with_items(4200), "4096 items"),
    "AVIF: boxes": (lambda: AVIF + box(b"free") * 10_100, "10000 boxes"),
    "AVIF: EXIF": (lambda: AVIF + box(b"free", overlapping()), "over one another"),
}


@pytest.mark.parametrize("case", TOO_COMPLEX)
def test_files_of_too_many_pieces_are_refused_and_are_not_ordinary(case: str) -> None:
    make, reason = TOO_COMPLEX[case]
    data = make()
    assert not ordinary(data)
    with pytest.raises(ImageTooComplexError, match=reason) as refused:
        load_pixels(data, SIDE, SIDE)
    assert refused.value.code == "image_too_complex"
    assert "save it again" in str(refused.value)


def animation(kind: str, frames: int, **options: object) -> bytes:
    others = [PICTURE.rotate(angle) for angle in range(1, frames)]
    return encoded(kind, save_all=True, append_images=others, **options)


XMP = b"<x>" * 1_000_000
LEGAL: dict[str, Callable[[], bytes]] = {
    "JPEG: 10 MB of extended XMP": lambda: in_jpeg(segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" * 1800) * 160),
    "JPEG: 10 MB behind the picture": lambda: JPEG + bytes(10_000_000),
    "JPEG: a profile of 1 MB": lambda: encoded("JPEG", icc_profile=bytes(1_000_000)),
    "JPEG: progressive": lambda: encoded("JPEG", progressive=True),
    "JPEG: EXIF and a thumbnail": lambda: in_jpeg(segment(0xE1, b"Exif\0\0" + directory([(274, 3, 1, 1)]) + JPEG)),
    "MPO: 20 pictures": lambda: animation("MPO", 20),
    "PNG: 5 MB of text": lambda: in_png(chunk(b"tEXt", b"a\0" + XMP + XMP[:2_000_000])),
    "PNG: 5 MB of text in 7 kB": lambda: in_png(chunk(b"zTXt", b"a\0\0" + zlib.compress(XMP + XMP[:2_000_000]))),
    "PNG: 3 MB of XMP": lambda: in_png(chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP))),
    "PNG: a profile of 2 MB": lambda: encoded("PNG", icc_profile=os.urandom(2_000_000)),
    "PNG: 500 chunks of text": lambda: in_png(chunk(b"tEXt", b"a\0b") * 500),
    "PNG: a picture in 3000 pieces": lambda: PNG[:-12] + chunk(b"IDAT") * 3000 + PNG[-12:],
    "APNG: 100 frames": lambda: animation("PNG", 100),
    "GIF: 1 MB of comment": lambda: encoded("GIF", comment=bytes(1_000_000)),
    "GIF: 3 MB of XMP": lambda: in_gif(
        b"\x21\xff\x0bXMP DataXMP" + XMP + b"\x01" + bytes(range(255, -1, -1)) + b"\0\0"
    ),
    "GIF: 100 frames": lambda: animation("GIF", 100),
    "WebP: 10 MB of XMP": lambda: encoded("WEBP", xmp=bytes(10_000_000)),
    "WebP: 100 frames": lambda: animation("WEBP", 100),
    "TIFF: 13 MB of metadata": lambda: encoded("TIFF", tiffinfo={700: bytes(10_000_000), 34377: bytes(3_000_000)}),
    "TIFF: 100 pages": lambda: animation("TIFF", 100),
    "TIFF: a strip for each row": lambda: encoded("TIFF", compression="tiff_lzw", strip_size=1),
    "AVIF: 10 MB of XMP": lambda: encoded("AVIF", xmp=bytes(10_000_000)),
    "AVIF: 10 frames": lambda: animation("AVIF", 10),
    "AVIF: EXIF": lambda: encoded("AVIF", exif=b"Exif\0\0" + directory([(274, 3, 1, 1)])),
    "BMP: run-length coded": lambda: rle(trailing=b""),
    "BMP: run-length coded, and more behind it": lambda: rle(trailing=bytes(100_000)),
}


def rle(trailing: bytes) -> bytes:
    """64 by 48 pixels of a palette, each in its own run: the largest file for a picture of this size."""
    grey = np.asarray(PICTURE.convert("L"))
    rows = b"".join(b"".join(bytes((1, value)) for value in row) + b"\0\0" for row in grey[::-1]) + b"\0\1"
    palette = b"".join(bytes((value, value, value, 0)) for value in range(256))
    offset = 54 + len(palette)
    head = struct.pack(
        "<2sIIIIiiHHIIiiII", b"BM", offset + len(rows), 0, offset, 40, 64, 48, 1, 8, 1, len(rows), *[0] * 4
    )
    return head + palette + rows + trailing


@pytest.mark.parametrize("case", LEGAL)
def test_large_but_legal_files_are_decoded(case: str) -> None:
    data = LEGAL[case]()
    pixels = load_pixels(data, SIDE, SIDE)
    expected = load_pixels(JPEG, SIDE, SIDE)
    assert np.abs(pixels.astype(float) - expected).mean() < (60 if "BMP" in case else 12)  # lossy, or a palette


def old_exif(block: bytes) -> bytes:
    """EXIF as old ImageMagick wrote it into PNG: as hexadecimal text."""
    return b"Raw profile type exif\0\nexif\n%8d\n%s\n" % (len(block), block.hex().encode())


def test_exif_that_png_holds_as_text_turns_a_photo_unless_it_is_made_to_be_slow() -> None:
    turned = directory([(274, 3, 1, 6)])
    text = old_exif(turned)
    packed = text[:22] + b"\0" + zlib.compress(text[22:])
    for added in (chunk(b"tEXt", text), chunk(b"zTXt", packed)):
        assert load_photo(in_png(added), SIDE, SIDE).size == (PICTURE.height, PICTURE.width)
    slow = directory([(274, 3, 1, 6), *((1000 + number, 7, 5000, 4) for number in range(100))])
    for added in (chunk(b"tEXt", old_exif(slow + bytes(6000))), chunk(b"tEXt", old_exif(turned + bytes(40_000)))):
        assert load_photo(in_png(added), SIDE, SIDE).size == PICTURE.size


def test_turning_a_photo_reads_no_more_of_its_exif_than_the_orientation(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    get_ifd = Image.Exif.get_ifd
    monkeypatch.setattr(Image.Exif, "get_ifd", lambda exif, tag: read.append(tag) or get_ifd(exif, tag))
    data = in_jpeg(segment(0xE1, b"Exif\0\0" + directory([(274, 3, 1, 6), (34665, 4, 1, 8)])))
    assert load_photo(data, SIDE, SIDE).size == (PICTURE.height, PICTURE.width)
    assert read == []


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "GIF", "TIFF", "BMP"])
def test_every_part_of_a_photo_is_needed(kind: str) -> None:
    data = encoded(kind)
    assert read_structure(data).needed() is data
    assert bool(ordinary(data)) == (kind in ("JPEG", "PNG", "WEBP"))


def test_the_committed_photographs_are_ordinary() -> None:
    for path in sorted((ROOT / "tests/assets/photos").glob("*.jpg")):
        assert ordinary(path.read_bytes())


@pytest.mark.parametrize(
    "make",
    [
        lambda: b"",
        lambda: b"\xff\xd8\xff",
        lambda: JPEG[:200],
        lambda: encoded("PNG", Image.new("L", (8000, 5000))),
        lambda: animation("WEBP", 2),
        lambda: animation("PNG", 2),
        lambda: JPEG + bytes(17 * 2**20),
        LEGAL["JPEG: 10 MB of extended XMP"],
    ],
)
def test_unusual_files_are_not_ordinary(make: Callable[[], bytes]) -> None:
    assert not ordinary(make())


def test_the_memory_for_opening_a_file_counts() -> None:
    held: list[int] = []

    class Hold:
        def __init__(self, pixels: int) -> None:
            held.append(pixels)

        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> None: ...

    load_photo(JPEG, SIDE, SIDE, hold=Hold)
    assert held[0] == len(JPEG)
    large = encoded("WEBP", Image.new("RGB", (1000, 700)))
    assert len(large) < 700_000
    assert opening_pixels(large) == 700_000
    assert opening_pixels(encoded("WEBP", Image.new("RGBA", (1000, 700)), lossless=True)) == 700_000
    assert opening_pixels(animation("WEBP", 3)) == max(64 * 48, len(animation("WEBP", 3)))
