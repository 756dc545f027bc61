"""EXIF turns a photo, and so does the container's rotation in HEIF and AVIF. As in browsers, XMP does not."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from labelwise.image import load_photo, open_rgb, open_small

RED, GREEN = (255, 0, 0), (0, 255, 0)
ATTRIBUTE = b"""<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description
xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta><?xpacket end="w"?>"""
ELEMENT = ATTRIBUTE.replace(b' tiff:Orientation="6"/>', b"><tiff:Orientation>6</tiff:Orientation></rdf:Description>")
FORMATS = ["JPEG", "MPO", "PNG", "WEBP", "TIFF", "compressed TIFF", "AVIF", "HEIF"]


def stored() -> Image.Image:
    """48 x 32, the left half red."""
    image = Image.new("RGB", (48, 32), GREEN)
    image.paste(RED, (0, 0, 24, 32))
    return image


def encode(format: str, exif: int | None = None, xmp: bytes | None = None) -> bytes:
    options: dict[str, Any] = {"WEBP": {"lossless": True}, "HEIF": {"quality": 95}}.get(format, {})
    if format == "MPO":
        options = {"save_all": True, "append_images": [stored()]}
    if format == "compressed TIFF":
        format, options = "TIFF", {"compression": "tiff_lzw"}
    if format == "TIFF":
        options["tiffinfo"] = {tag: value for tag, value in ((0x0112, exif), (700, xmp)) if value is not None}
        xmp = None
    elif exif is not None:
        options["exif"] = Image.Exif()
        options["exif"][0x0112] = exif
    if xmp is not None and format == "PNG":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp.decode())
    elif xmp is not None:
        options["xmp"] = xmp
    stream = io.BytesIO()
    if format == "HEIF" and xmp is not None:  # its writer would turn XMP's orientation into HEIF's own
        options["xmp"] = xmp.replace(b"6", b"1")
        stored().save(stream, format, **options)
        return stream.getvalue().replace(options["xmp"], xmp)
    stored().save(stream, format, **options)
    return stream.getvalue()


def assert_shown(data: bytes, orientation: int) -> None:
    """As stored for orientation 1; for 6, clockwise: red at the top. In pixels, explanation and small copy alike."""
    size = (48, 32) if orientation == 1 else (32, 48)
    photo = load_photo(data, 48, 48)
    assert (photo.orientation, photo.size) == (orientation, size)
    for shown in (open_rgb(data), open_small(data, 48), Image.fromarray(photo.pixels).resize(size)):
        assert shown.size == size
        first, second = shown.getpixel((6, 6)), shown.getpixel((size[0] - 6, size[1] - 6))
        assert np.abs(np.subtract(first, RED)).max() < 40
        assert np.abs(np.subtract(second, GREEN)).max() < 40


def skip_without(format: str) -> None:
    if format == "HEIF":
        pytest.importorskip("pillow_heif")


@pytest.mark.parametrize("xmp", [ATTRIBUTE, ELEMENT], ids=["attribute", "element"])
@pytest.mark.parametrize("format", FORMATS)
def test_an_orientation_in_xmp_alone_turns_nothing(format: str, xmp: bytes):
    skip_without(format)
    data = encode(format, xmp=xmp)
    assert b"tiff:Orientation" in data
    assert_shown(data, 1)


@pytest.mark.parametrize("format", FORMATS[:-2])
def test_exif_decides_where_xmp_says_otherwise(format: str):
    assert_shown(encode(format, exif=6, xmp=ATTRIBUTE.replace(b'"6"', b'"3"')), 6)
    assert_shown(encode(format, exif=1, xmp=ATTRIBUTE), 1)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def test_a_png_may_state_its_exif_and_xmp_after_its_pixels():
    exif = Image.Exif()
    exif[0x0112] = 6
    png, end = encode("PNG"), chunk(b"IEND", b"")
    late_exif = chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    late_xmp = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + ATTRIBUTE.replace(b'"6"', b'"8"'))
    assert_shown(png.removesuffix(end) + late_xmp + end, 1)
    assert_shown(png.removesuffix(end) + late_exif + end, 6)
    assert_shown(png.removesuffix(end) + late_xmp + late_exif + end, 6)


def test_a_broken_exif_block_does_not_let_xmp_decide():
    options = {"exif": b"Exif\0\0garbage", "xmp": ATTRIBUTE}
    for format in ("JPEG", "WEBP"):
        stream = io.BytesIO()
        stored().save(stream, format, **options)
        assert_shown(stream.getvalue(), 1)
