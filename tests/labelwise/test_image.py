"""The decoder on all kinds of ordinary, broken and hostile files."""

import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from labelwise.image import FORMATS, ImageError, centre_box, load_pixels, open_rgb
from labelwise.image.image_errors import (
    BrokenImageError,
    EmptyImageError,
    ImageTooLargeError,
    ImageTooSmallError,
    UnsupportedImageError,
)

ROOT = Path(__file__).parent.parent.parent
BLACK, GREY, WHITE, PINK = (0, 0, 0), (128, 128, 128), (255, 255, 255), (255, 127, 127)
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
LOSSLESS = {
    "JPEG": {"quality": 100, "subsampling": 0},
    "WEBP": {"lossless": True},
    "AVIF": {"quality": 100, "subsampling": "4:4:4"},
}


def encode(image: Image.Image, format: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def halves(left: Any, right: Any, mode: str = "RGB") -> Image.Image:
    """A 32x16 image of two colours, side by side; 16-pixel halves keep JPEG's blocks apart."""
    image = Image.new(mode, (32, 16), left)
    image.paste(right, (16, 0, 32, 16))
    return image


def colours(data: bytes) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The two colours of `halves` after decoding, far from the seam."""
    image = open_rgb(data)
    assert (image.mode, image.size) == ("RGB", (32, 16))
    return image.getpixel((6, 8)), image.getpixel((26, 8))  # type: ignore[return-value]


def png(width: int, height: int, depth: int, colour_type: int, pixels: bytes, *extra: tuple[bytes, bytes]) -> bytes:
    """A hand-made PNG, for what Pillow cannot write; `pixels` are the rows with their filter bytes."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    chunks = [(b"IHDR", header), *extra, (b"IDAT", zlib.compress(pixels)), (b"IEND", b"")]
    packed = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def grey16(mode: str, format: str) -> bytes:
    values = np.full((16, 32), 0x8080, ">u2" if mode == "I;16B" else "<u2")
    values[:, 16:] = 0xFFFF
    return encode(Image.frombytes(mode, (32, 16), values.tobytes()), format)


def palette() -> bytes:
    image = halves(0, 1, "P")
    image.putpalette([*RED, *BLUE])
    return encode(image, "PNG", transparency=0)


def frames(format: str) -> bytes:
    return encode(halves(RED, BLUE), format, save_all=True, append_images=[halves(GREEN, BLACK)], duration=50)


def test_every_accepted_format_shows_the_same_photo(photos: list[Path]):
    photo = Image.open(photos[0]).convert("RGB").crop((0, 0, 320, 240))
    expected = np.asarray(photo.resize((64, 48), Image.Resampling.BICUBIC), np.int16)
    for format in FORMATS:
        pixels = load_pixels(encode(photo, format), 48, 64)
        assert (pixels.shape, pixels.dtype) == ((48, 64, 3), np.uint8)
        # A GIF has but 256 colours.
        assert np.abs(pixels - expected).mean() < (6 if format == "GIF" else 2.5), format


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF"])
def test_exif_orientation_is_applied(format: str, orientation: int):
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # FLIP_LEFT_RIGHT, ROTATE_180, …: upright -> as stored
    upright = Image.new("RGB", (48, 32))
    for box, colour in (((0, 0, 16, 16), RED), ((16, 0, 48, 16), GREEN), ((0, 16, 16, 32), BLUE)):
        upright.paste(colour, box)
    stored = upright.transpose(Image.Transpose(undo[orientation])) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    shown = open_rgb(encode(stored, format, exif=exif, **LOSSLESS.get(format, {})))
    assert shown.size == (48, 32)
    assert np.abs(np.asarray(shown, np.int16) - np.asarray(upright, np.int16)).mean() < 3


def test_a_broken_exif_block_says_nothing_about_the_pixels():
    assert colours(encode(halves(RED, BLUE), "PNG", exif=b"Exif\0\0garbage")) == (RED, BLUE)
    assert colours(encode(halves(RED, BLUE), "PNG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff")) == (RED, BLUE)


@pytest.mark.parametrize(
    ("data", "left", "right"),
    [
        pytest.param(encode(halves((0, 255, 255, 0), (0, 0, 0, 255), "CMYK"), "JPEG"), RED, BLACK, id="CMYK-JPEG"),
        pytest.param(encode(halves((0, 255, 255, 0), (0, 0, 0, 0), "CMYK"), "TIFF"), RED, WHITE, id="CMYK-TIFF"),
        pytest.param(grey16("I;16", "PNG"), GREY, WHITE, id="grey16-PNG"),
        pytest.param(grey16("I;16", "TIFF"), GREY, WHITE, id="grey16-TIFF"),
        pytest.param(grey16("I;16B", "TIFF"), GREY, WHITE, id="grey16-big-endian-TIFF"),
        pytest.param(
            png(32, 16, 16, 2, (b"\0" + b"\xff\xff\0\0\0\0" * 16 + b"\x80\x80" * 48) * 16), RED, GREY, id="RGB16-PNG"
        ),
        pytest.param(
            png(32, 16, 16, 0, (b"\0" + b"\x00\x07" * 16 + b"\x80\x80" * 16) * 16, (b"tRNS", b"\x00\x07")),
            WHITE, GREY, id="grey16-with-a-transparent-value",
        ),
        pytest.param(encode(halves(0.0, 0.5, "F"), "TIFF"), BLACK, GREY, id="float-TIFF"),
        pytest.param(palette(), WHITE, BLUE, id="palette-with-transparency"),
        pytest.param(encode(halves(RED, BLUE), "PNG", transparency=RED), WHITE, BLUE, id="transparent-colour"),
        pytest.param(encode(halves((0, 0), (128, 255), "LA"), "PNG"), WHITE, GREY, id="LA"),
        pytest.param(encode(halves((255, 0, 0, 128), (0, 0, 255, 0), "RGBA"), "PNG"), PINK, WHITE, id="RGBA"),
        pytest.param(encode(halves(0, 1, "1"), "PNG"), BLACK, WHITE, id="1-bit-PNG"),
        pytest.param(encode(halves(0, 1, "1"), "TIFF"), BLACK, WHITE, id="1-bit-TIFF"),
        pytest.param(frames("GIF"), RED, BLUE, id="animated-GIF"),
        pytest.param(frames("WEBP"), RED, BLUE, id="animated-WEBP"),
        pytest.param(frames("TIFF"), RED, BLUE, id="pages-of-a-TIFF"),
        pytest.param(frames("MPO"), RED, BLUE, id="two-photos-in-a-JPEG"),
    ],
)  # fmt: skip
def test_every_kind_of_pixel_becomes_rgb(data: bytes, left: tuple[int, ...], right: tuple[int, ...]):
    for shown, expected in zip(colours(data), (left, right), strict=True):
        assert np.abs(np.subtract(shown, expected)).max() <= 8, (shown, expected)


def wide_gamut() -> bytes:
    """A Display P3 profile: Pillow's sRGB one with P3's primaries (adapted to D50) and without sRGB's name."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    primaries = {
        b"rXYZ": (0.51512, 0.24120, -0.00105),
        b"gXYZ": (0.29198, 0.69225, 0.04189),
        b"bXYZ": (0.15710, 0.06657, 0.78407),
    }
    (count,) = struct.unpack_from(">I", profile, 128)
    for entry in range(132, 132 + 12 * count, 12):
        kind, offset, _ = struct.unpack_from(">4sII", profile, entry)
        if kind in primaries:
            struct.pack_into(">3i", profile, offset + 8, *(round(value * 65536) for value in primaries[kind]))
    return bytes(profile.replace("sRGB".encode("utf-16-be"), "P3 D".encode("utf-16-be")))


@pytest.mark.parametrize(
    ("mode", "format"),
    [("RGB", "PNG"), ("RGB", "JPEG"), ("RGB", "TIFF"), ("RGBA", "PNG"), ("RGBA", "WEBP"), ("P", "PNG")],
)
def test_a_wide_gamut_profile_is_converted_to_srgb(mode: str, format: str):
    image = halves((234, 51, 35), (117, 251, 76))  # what sRGB's red and green are in Display P3
    image = image.quantize(2) if mode == "P" else image.convert(mode)
    options = LOSSLESS.get(format, {})
    left, right = colours(encode(image, format, icc_profile=wide_gamut(), **options))
    assert np.abs(np.subtract(left, RED)).max() <= 5, left
    assert np.abs(np.subtract(right, GREEN)).max() <= 5, right


@pytest.mark.parametrize(
    "profile", [None, b"not a profile", ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()]
)
def test_a_missing_or_broken_profile_and_srgb_change_nothing(profile: bytes | None):
    data = encode(halves((234, 51, 35), (117, 251, 76)), "PNG", icc_profile=profile)
    assert colours(data) == ((234, 51, 35), (117, 251, 76))


def test_crop_keeps_the_centre_and_squash_the_whole():
    wide = Image.new("RGB", (120, 40), GREEN)
    wide.paste(RED, (0, 0, 40, 40))
    wide.paste(BLUE, (80, 0, 120, 40))
    for image, turn in ((wide, 0), (wide.transpose(Image.Transpose.ROTATE_270), 1)):
        cropped, squashed = (load_pixels(encode(image, "PNG"), 24, 24, resize) for resize in ("crop", "squash"))
        assert (cropped[4:-4, 4:-4] == GREEN).all()  # bicubic looks a little beyond the box
        squashed = np.moveaxis(squashed, turn, 0)  # the photo's long side last
        assert [tuple(squashed[12, place]) for place in (2, 12, 21)] == [RED, GREEN, BLUE]
    assert load_pixels(encode(wide, "PNG"), 10, 30, "crop").shape == (10, 30, 3)


def enlarged(photo: Path, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    with Image.open(photo) as image:
        large = image.resize((image.width * 4, image.height * 4), Image.Resampling.LANCZOS)
    return encode(large, "JPEG", quality=92, exif=exif)


def assert_draft_is_faithful(data: bytes, side: int, mean: float, largest: int) -> None:
    whole = open_rgb(data)
    draft = open_rgb(data, draft_side=2 * side)
    assert 2 * side <= min(draft.size) < min(whole.size)
    expected = np.asarray(whole.resize((side, side), Image.Resampling.BICUBIC), np.int16)
    difference = np.abs(load_pixels(data, side, side) - expected)
    assert difference.mean() < mean
    assert difference.max() <= largest


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_draft_of_a_large_jpeg_equals_the_whole(photos: list[Path], orientation: int):
    for photo in photos[:2]:  # all of them stay within 0.28 and 3 of 255 levels
        assert_draft_is_faithful(enlarged(photo, orientation), 128, mean=0.6, largest=8)


@pytest.mark.parametrize("resize", ["squash", "crop"])
def test_a_large_picture_that_no_decoder_reduces_is_averaged_first(photos: list[Path], resize: str):
    with Image.open(io.BytesIO(enlarged(photos[0], 1))) as image:
        picture = image.convert("RGB")
        box = centre_box(picture.size, 1) if resize == "crop" else None
        for side, mean, largest in ((128, 0.6, 8), (max(picture.size) // 5, 0, 0)):
            expected = np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC, box), np.int16)
            difference = np.abs(load_pixels(encode(picture, "BMP"), side, side, resize) - expected)
            assert difference.mean() <= mean
            assert difference.max() <= largest


def test_a_draft_keeps_what_fine_detail_averages_to(photos: list[Path]):
    for photo in photos:  # straight from a camera, so detailed to the last pixel: measured 4.2 and 40
        assert_draft_is_faithful(photo.read_bytes(), 48, mean=6, largest=60)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        pytest.param(b"", EmptyImageError, id="empty"),
        pytest.param(b"hello, this is no photo" * 9, UnsupportedImageError, id="text"),
        pytest.param(b"<svg xmlns='http://www.w3.org/2000/svg'/>", UnsupportedImageError, id="SVG"),
        pytest.param(encode(halves(RED, BLUE), "PPM"), UnsupportedImageError, id="a-format-of-Pillow-s-not-ours"),
        pytest.param(encode(halves(RED, BLUE), "JPEG")[:-40], BrokenImageError, id="truncated-JPEG"),
        pytest.param(encode(halves(RED, BLUE), "PNG")[:60], BrokenImageError, id="truncated-PNG"),
        pytest.param(encode(Image.new("RGB", (1, 1)), "PNG"), ImageTooSmallError, id="1x1"),
        pytest.param(encode(Image.new("RGB", (500, 7)), "PNG"), ImageTooSmallError, id="a-sliver"),
        pytest.param(png(40_000, 40_000, 8, 2, b""), ImageTooLargeError, id="40000x40000"),
    ],
)
def test_an_image_error_says_why(data: bytes, error: type[ImageError]):
    with pytest.raises(ImageError) as caught:
        load_pixels(data, 32, 32)
    assert type(caught.value) is error
    assert str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "action", ["error", "ignore"]
)  # Pillow warns above 89 megapixels; servers run without -W error
@pytest.mark.parametrize(("side", "max_pixels"), [(10_000, 64_000_000), (60, 3_599), (9_000, 85_000_000)])
def test_only_max_pixels_decides_what_is_too_large(side: int, max_pixels: int, action: str):
    with warnings.catch_warnings():
        warnings.simplefilter(action)  # type: ignore[arg-type]
        with pytest.raises(ImageError) as caught:
            open_rgb(png(side, side, 8, 0, b""), max_pixels)
    # Within the limit, what is wrong with this PNG is that it has no pixels.
    assert type(caught.value) is (ImageTooLargeError if side * side > max_pixels else BrokenImageError)


def test_heic_is_read_where_its_plugin_is_installed(photos: list[Path]):
    pytest.importorskip("pillow_heif")
    upright = Image.open(photos[0]).convert("RGB").resize((96, 64))
    stored = upright.transpose(Image.Transpose.ROTATE_90)
    stored.getexif()[0x0112] = 6  # which the plugin writes as HEIF's own rotation, as phones do
    shown = open_rgb(encode(stored, "HEIF", quality=95))
    assert shown.size == (96, 64)
    assert np.abs(np.asarray(shown, np.int16) - np.asarray(upright, np.int16)).mean() < 5
