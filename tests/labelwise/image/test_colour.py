"""Colours come out as a browser shows them, however a file states them."""

import io
import struct
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms, PngImagePlugin

from labelwise.image import load_photo, open_rgb
from labelwise.image.cicp import PRIMARIES, srgb
from labelwise.image.icc import _build, make_profile
from tests.labelwise.image.hdr_twins import avif
from tests.labelwise.image.profiles import (
    P3_COLORANTS,
    SRGB_COLORANTS,
    SRGB_CURVE,
    cmyk_profile,
    gamma_curve,
    grey_profile,
    rgb_profile,
)

LINEAR = rgb_profile("sRGB IEC61966-2.1 (linear)", SRGB_COLORANTS, gamma_curve(1.0))
P3 = rgb_profile("sRGB, or so they say", P3_COLORANTS, SRGB_CURVE)
SRGB_UNNAMED = rgb_profile("A camera", SRGB_COLORANTS, SRGB_CURVE)
GREY_LINEAR = grey_profile("sRGB grey", gamma_curve(1.0))
GREY_DARK = grey_profile("", gamma_curve(2.8))


@pytest.fixture(scope="module")
def chart() -> Image.Image:
    """64x32: four colours above four greys."""
    colours = [[(200, 60, 40), (60, 160, 80), (40, 80, 190), (230, 190, 160)], [(i, i, i) for i in (16, 64, 128, 240)]]
    return Image.fromarray(np.array(colours, np.uint8)).resize((64, 32), Image.Resampling.NEAREST)


def encode(image: Image.Image, format: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def shown(data: bytes) -> NDArray[np.int16]:
    return np.asarray(open_rgb(data), np.int16)


def notes(data: bytes) -> tuple[str, ...]:
    return load_photo(data, 16, 16).notes


def assert_near(actual: NDArray[Any], expected: Any, most: int = 2) -> None:
    assert actual.shape == np.shape(expected)
    assert np.abs(actual - np.round(expected)).max() <= most


def encoded(linear: NDArray[np.float64]) -> NDArray[np.float64]:
    """IEC 61966-2-1: linear light, 0 to 1, to levels."""
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def by_gamma(image: Image.Image, exponent: float) -> NDArray[np.float64]:
    return encoded((np.asarray(image.convert("RGB")) / 255) ** exponent)


def p3_seen(image: Image.Image) -> NDArray[np.float64]:
    """Display P3 levels as sRGB's, by the matrix of CSS Color 4."""
    value = np.asarray(image) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    matrix = np.array([[1.2249, -0.2247, 0], [-0.0420, 1.0419, 0], [-0.0197, -0.0786, 1.0979]])
    return encoded((linear @ matrix.T).clip(0, 1))


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
def test_a_linear_profile_is_converted_though_it_is_called_srgb(format: str, chart: Image.Image):
    options = {"lossless": True} if format == "WEBP" else {}
    data = encode(chart, format, icc_profile=LINEAR, **options)
    assert_near(shown(data), by_gamma(chart, 1.0))
    assert_near(shown(encode(chart, format, icc_profile=P3, **options)), p3_seen(chart))
    assert notes(data) == ()


@pytest.mark.parametrize(
    "profile", [SRGB_UNNAMED, ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(), None]
)
def test_srgb_under_any_name_changes_no_pixel(profile: bytes | None, chart: Image.Image):
    assert (shown(encode(chart, "PNG", icc_profile=profile)) == np.asarray(chart)).all()


@pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
@pytest.mark.parametrize(
    ("profile", "exponent"), [(GREY_LINEAR, 1.0), (LINEAR, 1.0), (grey_profile("", gamma_curve(2.8)), 2.8)]
)
def test_profiles_of_grey_pictures_count(mode: str, profile: bytes, exponent: float, chart: Image.Image):
    grey = chart.convert("L")
    stored = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257) if mode == "I;16" else grey.convert(mode)
    data = encode(stored, "PNG", icc_profile=profile)
    assert_near(shown(data), by_gamma(grey, exponent))
    assert notes(data) == ()


@pytest.mark.parametrize("profile", [GREY_LINEAR, LINEAR])
def test_the_dark_end_of_a_linear_profile_is_exact(profile: bytes):
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    data = encode(Image.fromarray(levels), "PNG", icc_profile=profile)
    assert_near(shown(data), by_gamma(Image.fromarray(levels), 1.0), most=1)


def test_dark_samples_of_16_bits_are_not_rounded_before_they_are_brightened():
    samples = np.linspace(0, 2000, 64 * 64).reshape(64, 64).astype(np.uint16)
    data = encode(Image.fromarray(samples), "PNG", icc_profile=GREY_LINEAR)
    expected = encoded(samples / 65535)
    assert_near(shown(data), np.repeat(expected[..., np.newaxis], 3, -1))
    assert len(np.unique(shown(data))) > 45


def test_a_grey_avif_is_decoded_to_rgb_and_keeps_its_grey_profile(chart: Image.Image):
    grey = chart.convert("L")
    data = encode(grey, "AVIF", quality=100, icc_profile=GREY_LINEAR)
    assert_near(shown(data), by_gamma(grey, 1.0), most=6)  # the dark end is steep, and AVIF is lossy


@pytest.mark.parametrize(
    ("mode", "format", "profile", "note"),
    [
        ("RGB", "PNG", b"no profile at all" * 20, "The photo's colour profile is broken"),
        ("RGB", "JPEG", LINEAR[:150], "The photo's colour profile is broken"),
        ("RGB", "TIFF", GREY_LINEAR, "The photo's colour profile is for grey pixels and they are RGB"),
        ("CMYK", "TIFF", LINEAR, "The photo's colour profile is for RGB pixels and they are CMYK"),
    ],
)
def test_an_unusable_profile_is_reported(mode: str, format: str, profile: bytes, note: str, chart: Image.Image):
    image = chart.convert(mode)
    data = encode(image, format, icc_profile=profile)
    assert notes(data) == (f"{note}; its colours are taken as sRGB.",)
    assert_near(shown(data), shown(encode(image, format)), most=0)


@pytest.mark.parametrize(("lightness", "level"), [(0, 0), (20, 48), (40, 94)])  # CIE L* as sRGB's grey
def test_the_black_of_a_print_is_as_dark_as_its_profile_says(lightness: float, level: int):
    data = encode(Image.new("CMYK", (16, 16), (0, 0, 0, 255)), "TIFF", icc_profile=cmyk_profile(lightness))
    assert_near(shown(data), np.full((16, 16, 3), level))
    assert notes(data) == ()


def test_an_incomplete_profile_of_a_jpeg_is_reported(chart: Image.Image):
    data = encode(chart, "JPEG", icc_profile=bytes(100_000))  # in two segments
    second = data.rindex(b"ICC_PROFILE\0")
    broken = data[: second - 4] + data[second - 2 + struct.unpack_from(">H", data, second - 2)[0] :]
    assert notes(broken) == ("The photo's colour profile is broken; its colours are taken as sRGB.",)


def test_a_bmp_may_embed_a_profile(chart: Image.Image):
    plain = encode(chart, "BMP")
    (start,) = struct.unpack_from("<I", plain, 10)
    pixels = plain[start:]
    header = plain[18:54] + bytes(16) + b"DEBM" + bytes(48) + struct.pack("<4xII4x", 124 + len(pixels), len(P3))
    assert len(header) == 120
    data = b"BM" + struct.pack("<IIII", 138 + len(pixels) + len(P3), 0, 138, 124) + header + pixels + P3
    assert_near(shown(data), p3_seen(chart))


def png(image: Image.Image, *chunks: tuple[bytes, bytes], **options: Any) -> bytes:
    info = PngImagePlugin.PngInfo()
    for kind, body in chunks:
        info.add(kind, body)
    return encode(image, "PNG", pnginfo=info, **options)


def gama(value: float) -> tuple[bytes, bytes]:
    return b"gAMA", struct.pack(">I", round(value * 1e5))


def chrm(*values: float) -> tuple[bytes, bytes]:
    return b"cHRM", struct.pack(">8I", *(round(value * 1e5) for value in values))


P3_CHRM = chrm(0.3127, 0.3290, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060)
SRGB_CHRM = chrm(0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
P3_CICP, NO_CICP, UNKNOWN_CICP = ((b"cICP", bytes([primaries, 13, 0, 1])) for primaries in (12, 2, 3))


def test_the_statements_of_a_png_count_in_the_order_of_browsers(chart: Image.Image):
    srgb, linear, p3 = np.asarray(chart), by_gamma(chart, 1.0), p3_seen(chart)
    for data, expected in (
        (png(chart, gama(1.0)), linear),
        (png(chart, gama(0.45455)), srgb),
        (png(chart, gama(0.45455), SRGB_CHRM), srgb),
        (png(chart, P3_CHRM), srgb),  # without gAMA
        (png(chart, gama(1.0), chrm(*[0] * 8)), srgb),  # impossible
        (png(chart, gama(0)), srgb),
        (png(chart, gama(1.0), (b"sRGB", b"\0")), srgb),
        (png(chart, gama(1.0), icc_profile=P3), p3),
        (png(chart, (b"sRGB", b"\0"), icc_profile=P3), p3),
        (png(chart, *[(b"tEXt", b"a\0b")] * 1500, P3_CICP), p3),
        (png(chart, P3_CICP, gama(1.0), icc_profile=LINEAR), p3),
        (png(chart, NO_CICP, gama(1.0)), linear),
        (png(chart, UNKNOWN_CICP, icc_profile=LINEAR), linear),
    ):
        assert_near(shown(data), expected)
    assert_near(shown(png(chart, gama(1 / 2.2), P3_CHRM)), p3_seen(chart), most=12)  # gamma 2.2 is not quite sRGB's
    assert notes(png(chart, UNKNOWN_CICP)) == (
        "The photo's colour space (CICP 3/13) is not supported; its colours are taken as sRGB.",
    )


def test_gama_counts_for_grey_transparent_and_palette_pictures(chart: Image.Image):
    grey = chart.convert("L")
    expected = by_gamma(grey, 1.0)
    for image in (grey, grey.convert("LA"), Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)):
        assert_near(shown(png(image, gama(1.0))), expected)
    assert_near(shown(png(chart.convert("RGBA"), gama(1.0))), by_gamma(chart, 1.0))
    assert_near(shown(png(chart.quantize(16), gama(1.0))), by_gamma(chart, 1.0))


@pytest.mark.parametrize(
    ("primaries", "transfer", "colours"),  # of the chart's upper row, as Chromium 140 shows them
    [
        (1, 1, [(200, 60, 40), (60, 160, 80), (40, 80, 190), (230, 190, 160)]),
        (2, 2, [(200, 60, 40), (60, 160, 80), (40, 80, 190), (230, 190, 160)]),
        (12, 13, [(217, 42, 23), (0, 163, 69), (22, 81, 197), (238, 188, 156)]),
        (12, 1, [(217, 42, 23), (0, 163, 69), (22, 81, 197), (238, 188, 156)]),
        (11, 13, [(212, 42, 24), (0, 163, 69), (27, 80, 197), (236, 188, 156)]),
        (9, 14, [(247, 0, 23), (0, 168, 65), (0, 82, 198), (253, 184, 155)]),
        (5, 6, [(204, 60, 40), (50, 160, 82), (37, 80, 189), (232, 190, 160)]),
        (6, 6, [(195, 66, 39), (70, 158, 79), (48, 83, 190), (228, 190, 160)]),
        (10, 13, [(255, 0, 64), (0, 210, 38), (0, 110, 200), (255, 133, 159)]),
        (22, 13, [(202, 66, 39), (54, 157, 80), (39, 86, 190), (231, 190, 160)]),
        (1, 4, [(201, 57, 35), (57, 161, 79), (35, 79, 191), (231, 191, 161)]),
        (1, 5, [(189, 36, 17), (36, 142, 56), (17, 56, 177), (224, 177, 142)]),
        (1, 7, [(206, 77, 58), (77, 170, 97), (58, 97, 197), (233, 197, 170)]),
        (1, 8, [(229, 133, 110), (133, 208, 152), (110, 152, 224), (244, 224, 208)]),
        (1, 17, [(200, 44, 23), (44, 154, 65), (23, 65, 189), (235, 189, 154)]),
    ],
)
def test_an_avif_may_state_its_colours_by_number(
    primaries: int, transfer: int, colours: list[tuple[int, ...]], chart: Image.Image
):
    data = avif(chart, primaries, transfer)
    assert_near(shown(data)[8, 8::16], colours, most=8)  # AVIF is lossy
    assert notes(data) == ()


def test_an_unknown_colour_space_is_reported(chart: Image.Image):
    data = avif(chart, 1, 3)
    assert notes(data) == ("The photo's colour space (CICP 1/3) is not supported; its colours are taken as sRGB.",)
    assert_near(shown(data), chart, most=8)


def test_a_profile_of_an_avif_counts_before_its_numbers(chart: Image.Image):
    data = encode(chart, "AVIF", quality=100, subsampling="4:4:4", icc_profile=P3)
    assert b"nclx" in data
    assert_near(shown(data), p3_seen(chart), most=8)


def test_a_heic_may_state_its_colours_by_number(chart: Image.Image):
    pytest.importorskip("pillow_heif")
    numbers = {"color_primaries": 12, "transfer_characteristics": 13, "matrix_coefficients": 6, "full_range_flag": 1}
    data = encode(chart, "HEIF", quality=100, chroma=444, save_nclx_profile=True, **numbers)
    assert_near(shown(data), p3_seen(chart), most=6)


def test_a_generated_profile_equals_the_original():
    made = make_profile(PRIMARIES[12], srgb)
    ramp = Image.fromarray(np.random.default_rng(1).integers(0, 256, (32, 32, 3), np.uint8))
    for profile in (made, P3):
        mode, transform = _build(profile)
        assert mode == "RGB"
        assert transform is not None
        assert_near(np.asarray(transform.apply(ramp), np.int16), p3_seen(ramp), most=3)
