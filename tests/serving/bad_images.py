"""Broken and hostile photos."""

import io
import struct
import zlib

import numpy as np
from PIL import Image


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def picture(mode: str = "RGB", side: int = 64) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((side, side)).convert(mode)


def png_claiming(width: int, height: int) -> bytes:
    """A few bytes whose header claims a huge picture."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")
    )


def sixteen_bit_png() -> bytes:
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    return encode(Image.fromarray(ramp), "PNG")


def animated_gif() -> bytes:
    frames = [picture(), picture().rotate(90)]
    return encode(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=100)


BROKEN_PROFILE = encode(picture(), "JPEG", icc_profile=b"no profile at all" * 20)
BROKEN_PROFILE_NOTE = "The photo's colour profile is broken; its colours are taken as sRGB."

REFUSED = {
    "empty body": (b"", 422, "image_empty"),
    "text file": (b"These are words, not a photo.\n" * 9, 415, "image_format_unsupported"),
    "truncated JPEG": (encode(picture(side=256), "JPEG")[:1500], 422, "image_broken"),
    "1x1 image": (encode(picture(side=1), "PNG"), 422, "image_too_small"),
    "40,000 x 40,000 PNG": (png_claiming(40_000, 40_000), 413, "image_too_many_pixels"),
    "10,000 x 10,000 PNG": (png_claiming(10_000, 10_000), 413, "image_too_many_pixels"),
    "PNG without its pixels": (png_claiming(64, 64), 422, "image_broken"),
    "PDF": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", 415, "image_format_unsupported"),
    "SVG": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', 415, "image_format_unsupported"),
}

TAGGED = {
    "animated GIF": animated_gif(),
    "CMYK JPEG": encode(picture("CMYK"), "JPEG"),
    "16-bit PNG": sixteen_bit_png(),
    "palette PNG": encode(picture().quantize(16), "PNG"),
    "palette PNG, transparent": encode(picture().quantize(16), "PNG", transparency=0),
    "grey JPEG": encode(picture("L"), "JPEG"),
    "grey PNG with alpha": encode(picture("LA"), "PNG"),
    "black-and-white PNG": encode(picture("1"), "PNG"),
    "WebP": encode(picture(), "WEBP"),
    "AVIF": encode(picture(), "AVIF"),
    "BMP": encode(picture(), "BMP"),
    "TIFF": encode(picture(), "TIFF"),
}
