"""Valid but unsupported files are told apart from damaged ones, and the message names the feature.

The list of suffixes covers every file that the decoder can open.
"""

import io
import struct
from collections.abc import Callable

import pytest
from PIL import Image

from labelwise.image import SUFFIXES, ImageError, open_rgb
from labelwise.image.image_errors import BrokenImageError, UnsupportedImageError
from labelwise.image.opening import accepted_formats


def encode(format: str) -> bytes:
    stream = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").save(stream, format)
    return stream.getvalue()


def jpeg(change: Callable[[bytearray, int], None]) -> bytes:
    """A JPEG whose frame header `change` edits; it is called with the bytes and the header's place."""
    data = bytearray(encode("JPEG"))
    change(data, data.index(b"\xff\xc0"))
    return bytes(data)


def edit(*changes: tuple[int, int]) -> Callable[[bytearray, int], None]:
    def change(data: bytearray, place: int) -> None:
        for offset, value in changes:
            data[place + offset] = value

    return change


def bmp(bits: int, compression: int, masks: tuple[int, ...] = (), header: int = 40) -> bytes:
    pixels = bytes(16 * 16 * 8)
    head = struct.pack("<IiiHHIIiiII", header, 16, 16, 1, bits, compression, len(pixels), 2835, 2835, 0, 0)
    head += struct.pack(f"<{len(masks)}I", *masks)
    return b"BM" + struct.pack("<IHHI", 14 + len(head) + len(pixels), 0, 0, 14 + len(head)) + head + pixels


UNSUPPORTED = {
    "12-bit JPEG": (jpeg(edit((1, 0xC1), (4, 12))), "JPEG", "12 bits"),
    "lossless JPEG": (jpeg(edit((1, 0xC3))), "JPEG", "lossless"),
    "hierarchical JPEG": (jpeg(edit((1, 0xC5))), "JPEG", "hierarchical"),
    "JPEG-LS": (jpeg(edit((1, 0xF7))), "JPEG", "JPEG-LS"),
    "JPEG that states its height after its picture": (jpeg(edit((5, 0), (6, 0))), "JPEG", "height"),
    "JPEG with 3:2 subsampling": (jpeg(edit((11, 0x31), (14, 0x21))), "JPEG", "subsampling"),
    "ARGB4444 BMP": (bmp(16, 3, (0xF00, 0xF0, 0xF)), "BMP", "bitfields"),
    "BMP with 10 bits per colour": (bmp(32, 3, (0x3FF00000, 0xFFC00, 0x3FF)), "BMP", "bitfields"),
    "64-bit BMP": (bmp(64, 0), "BMP", "pixel depth (64)"),
    "JPEG within BMP": (bmp(24, 4), "BMP", "compression (4)"),
    "BMP of another header": (bmp(24, 0, header=99), "BMP", "header type (99)"),
}


@pytest.mark.parametrize("kind", UNSUPPORTED)
def test_an_unsupported_feature_is_named(kind: str):
    data, format, feature = UNSUPPORTED[kind]
    with pytest.raises(UnsupportedImageError) as caught:
        open_rgb(data)
    message = str(caught.value)
    assert message.startswith(f"This {format} file cannot be decoded here: ")
    assert feature in message
    assert "\n" not in message
    assert "damaged" not in message
    assert "whole" not in message


def test_a_heif_of_another_codec_is_not_called_another_format():
    pytest.importorskip("pillow_heif")
    data = encode("HEIF")
    for codec in (b"vvc1", b"avc1", b"j2k1"):
        with pytest.raises(UnsupportedImageError, match=r"This HEIF file .* HEVC"):
            open_rgb(data.replace(b"hvc1", codec))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF"])
def test_a_truncated_file_is_called_damaged(format: str):
    data = encode(format)
    for length in (30, len(data) // 3, len(data) - 30):
        with pytest.raises(ImageError) as caught:
            open_rgb(data[:length])
        assert type(caught.value) is BrokenImageError, length


@pytest.mark.parametrize(
    "data", [b"%PDF-1.7\n" * 9, b"\xff\x0a" + bytes(90), b"<svg xmlns='http://www.w3.org/2000/svg'/>"]
)
def test_other_files_are_refused_with_the_accepted_formats(data: bytes):
    with pytest.raises(UnsupportedImageError, match=r"not an image of an accepted format \(JPEG, PNG"):
        open_rgb(data)


def test_every_suffix_that_pillow_knows_for_an_accepted_format_is_listed():
    formats = {*accepted_formats(), "MPO", "DIB"}  # two that Pillow opens as JPEG and BMP
    known = {suffix for suffix, name in Image.registered_extensions().items() if name in formats}
    assert {".jfif", ".jpe", ".avifs"} <= known
    assert known <= {*SUFFIXES}


@pytest.mark.parametrize("suffix", [".hif", ".heic", ".heics", ".heif", ".heifs"])
def test_heic_is_listed_without_its_plugin_too(suffix: str):
    assert suffix in SUFFIXES  # so that such a photo is named as one that cannot be decoded, and not passed over
