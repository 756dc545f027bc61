"""Every kind of TIFF gives the right pixels, or an error that names the unsupported feature."""

import io
import itertools
import shutil
import subprocess
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
from numpy.typing import NDArray
from PIL import Image

from labelwise.image import ImageTooComplexError, open_rgb
from labelwise.image.image_errors import BrokenImageError, ImageTooLargeError, UnsupportedImageError
from tests.labelwise.image.tiff_files import FLOAT, INT, UINT, VOID, Tags, assembled, tiff
from tests.polling import PATIENCE

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, MASK, CMYK, YCBCR, CIELAB = 0, 1, 2, 3, 4, 5, 6, 8
OTHERS = (9, 10, 32803, 32844, 32845, 34892)  # ICCLab, ITULab, CFA, LogL, LogLuv, linear raw
NONE, DEFLATE = 1, 8
SIDE = 16  # of each of four bars, so that none shares a block of a JPEG with its neighbour

GREY = np.array([[0], [1 / 3], [2 / 3], [1]])
COLOURS = np.array([[1, 0, 0.25], [0, 0.25, 1], [0.5, 0.5, 0.5], [1, 1, 0]])
INKS = np.array([[1, 0, 0.25, 0], [0, 0.25, 1, 0.25], [0.5, 0.5, 0.5, 0], [1, 1, 0, 0]])
LUMA_CHROMA = np.array([[0.2, 0.5, 0.5], [0.4, 0.4, 0.5], [0.6, 0.6, 0.4], [0.8, 0.5, 0.6]])
YCBCR_SHOWN = [(51, 51, 51), (102, 110, 56), (117, 162, 198), (239, 186, 204)]  # as ImageMagick 6.9.11 shows them
LAB_SHOWN = [(48, 48, 48), (33, 105, 93), (167, 130, 188), (215, 196, 151)]
PALETTE_OF_256 = np.random.default_rng(1).integers(0, 256, (3, 256))

DECODED = {
    (WHITE_IS_ZERO, UINT): {1, 2, 4, 8, 16},
    (BLACK_IS_ZERO, UINT): {1, 2, 4, 8, 12, 16, 32},
    (BLACK_IS_ZERO, FLOAT): {32},
    (RGB, UINT): {8, 16},
    (PALETTE, UINT): {1, 2, 4, 8},
    (CMYK, UINT): {8, 16},
    (YCBCR, UINT): {8},
    (CIELAB, UINT): {8},
}
ONLY_LITTLE_ENDIAN = {(WHITE_IS_ZERO, 16), (BLACK_IS_ZERO, 12), (BLACK_IS_ZERO, 32)}  # in Pillow


def levels(photometric: int) -> NDArray[np.float64]:
    """The four bars' samples, from 0 to 1."""
    return {RGB: COLOURS, CMYK: INKS, YCBCR: LUMA_CHROMA, CIELAB: LUMA_CHROMA}.get(photometric, GREY)


def bars(values: NDArray[Any]) -> NDArray[Any]:
    """Four bars side by side, [height, width, samples]."""
    return np.repeat(np.repeat(values[None], SIDE, axis=1), SIDE, axis=0)


def samples(photometric: int, bits: int, sample_format: int = UINT) -> NDArray[Any]:
    values = levels(photometric)
    if sample_format == FLOAT:
        return bars(values)
    scaled = np.round(values * float(2 ** min(bits - (sample_format == INT), 53) - 1)).astype(np.int64)
    if photometric == CIELAB:
        scaled[:, 1:] = (scaled[:, 1:] - 2 ** (min(bits, 53) - 1)) % 2 ** min(bits, 53)
    return bars(scaled)


def palette(bits: int) -> Tags:
    return {320: (PALETTE_OF_256[:, : 2**bits] * 257).ravel().tolist()}


def shown(photometric: int, bits: int) -> NDArray[np.float64]:
    """What the four bars look like, [4, 3] from 0 to 255."""
    values = np.round(levels(photometric) * (2**bits - 1))
    scaled = 255 * values / (2**bits - 1)
    if photometric == PALETTE:
        return PALETTE_OF_256[:, values[:, 0].astype(int)].T
    if photometric == CMYK:
        return (255 - scaled[:, :3]) * (255 - scaled[:, 3:]) / 255
    if photometric in (YCBCR, CIELAB):
        return np.array(YCBCR_SHOWN if photometric == YCBCR else LAB_SHOWN)
    return np.broadcast_to(255 - scaled if photometric == WHITE_IS_ZERO else scaled, (4, 3))


def colours(image: Image.Image) -> NDArray[np.int64]:
    assert image.size == (4 * SIDE, SIDE)
    return np.asarray(image, np.int64)[SIDE // 2, SIDE // 2 :: SIDE]


def assert_shows(data: bytes, expected: Any, within: int = 3) -> None:
    found = colours(open_rgb(data))
    assert np.abs(found - np.asarray(expected)).max() <= within, (found, expected)


def refusal(data: bytes) -> str | None:
    try:
        open_rgb(data)
    except UnsupportedImageError as error:
        return str(error)
    return None


WAYS: list[dict[str, Any]] = [
    {},
    {"compression": DEFLATE},
    {"rows": 5},
    {"rows": 5, "compression": DEFLATE},
    {"tile": (16, 16)},
    {"tile": (16, 48), "compression": DEFLATE},
    {"tile": (64, 128), "compression": DEFLATE},  # larger than the picture
]


@pytest.mark.parametrize(
    ("photometric", "bits", "order"),
    [
        (p, bits, order)
        for (p, sample_format), depths in DECODED.items()
        for bits, order in itertools.product(depths, "<>")
        if sample_format == UINT and not (order == ">" and (p, bits) in ONLY_LITTLE_ENDIAN)
    ],
)
def test_every_way_to_store_samples_shows_the_same(photometric: int, bits: int, order: str):
    tags = palette(bits) if photometric == PALETTE else {530: [1, 1]} if photometric == YCBCR else {}
    pixels = samples(photometric, bits)
    for way in WAYS:
        data = tiff(pixels, photometric, bits, order=order, tags=tags, **way)
        assert_shows(data, shown(photometric, bits), within=5 if photometric == CIELAB else 3)


@pytest.mark.parametrize("photometric", [*range(7), CIELAB, *OTHERS])
def test_every_other_kind_is_refused_by_its_name(photometric: int):
    decoded = set()
    kinds = itertools.product((1, 2, 4, 8, 12, 16, 24, 32, 64), (UINT, INT, FLOAT, VOID), "<>", (NONE, DEFLATE))
    for bits, sample_format, order, compression in kinds:
        pixels = samples(photometric, bits, sample_format)
        tags = palette(bits) if photometric == PALETTE and bits <= 8 else {530: [1, 1]}
        data = tiff(pixels, photometric, bits, sample_format, order=order, compression=compression, tags=tags)
        if (message := refusal(data)) is None:
            decoded.add((sample_format, bits))
        else:
            assert message.startswith("TIFF with ")
            assert f"{bits}-bit" in message
    expected = {(f, bits) for (p, f), depths in DECODED.items() if p == photometric for bits in depths}
    assert decoded == expected


@pytest.mark.parametrize(
    ("pixels", "photometric", "bits", "sample_format", "order", "named"),
    [
        (samples(RGB, 16, FLOAT), RGB, 16, FLOAT, "<", "RGB 3 x 16-bit floating-point samples"),
        (samples(RGB, 32), RGB, 32, UINT, "<", "RGB 3 x 32-bit samples"),
        (samples(CIELAB, 16), CIELAB, 16, UINT, "<", "CIELab 3 x 16-bit samples"),
        (samples(BLACK_IS_ZERO, 16, INT), BLACK_IS_ZERO, 16, INT, "<", "grey 16-bit signed samples"),
        (samples(WHITE_IS_ZERO, 32, FLOAT), WHITE_IS_ZERO, 32, FLOAT, "<", "WhiteIsZero grey 32-bit floating-point"),
        (samples(WHITE_IS_ZERO, 16), WHITE_IS_ZERO, 16, UINT, ">", "in this byte or bit order"),
        (samples(BLACK_IS_ZERO, 32), BLACK_IS_ZERO, 32, UINT, ">", "in this byte or bit order"),
    ],
)
def test_the_refusal_says_what_is_not_supported(
    pixels: NDArray[Any], photometric: int, bits: int, sample_format: int, order: str, named: str
):
    with pytest.raises(UnsupportedImageError, match=named):
        open_rgb(tiff(pixels, photometric, bits, sample_format, order=order))


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("compression", [NONE, DEFLATE])
@pytest.mark.parametrize(("brightest", "bright"), [(1, 1), (0.5, 0.5), (4000, 1)])
def test_floating_point_samples_range_to_one_or_to_the_brightest(
    order: str, compression: int, brightest: float, bright: float
):
    pixels = bars(GREY * brightest)
    pixels[0, 0], pixels[0, 1] = np.inf, np.nan
    data = tiff(pixels, BLACK_IS_ZERO, 32, FLOAT, order=order, compression=compression)
    assert_shows(data, np.broadcast_to(GREY * bright * 255, (4, 3)))


@pytest.mark.parametrize("compression", [NONE, DEFLATE])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("photometric", [RGB, CMYK])
def test_separate_planes_are_decoded_or_refused(photometric: int, bits: int, compression: int):
    data = tiff(samples(photometric, bits), photometric, bits, separate=True, compression=compression)
    if bits == 16 and compression == NONE:
        with pytest.raises(UnsupportedImageError, match="in separate planes"):
            open_rgb(data)
    else:
        assert_shows(data, shown(photometric, bits))


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("compression", [NONE, DEFLATE])
@pytest.mark.parametrize(("photometric", "bits"), [(WHITE_IS_ZERO, 1), (BLACK_IS_ZERO, 4), (PALETTE, 8), (RGB, 8)])
def test_the_order_of_bits_in_a_byte_does_not_matter(photometric: int, bits: int, compression: int, order: str):
    tags = palette(bits) if photometric == PALETTE else {}
    data = tiff(
        samples(photometric, bits), photometric, bits, order=order, compression=compression, fill_order=2, tags=tags
    )
    assert_shows(data, shown(photometric, bits))


PILLOW_12 = int(PIL.__version__.split(".")[0]) < 13  # the last for Python 3.10
ALPHA = np.array([[1], [0.5], [1], [0]])


@pytest.mark.parametrize("compression", [NONE, DEFLATE])
@pytest.mark.parametrize(("photometric", "bits"), [(BLACK_IS_ZERO, 8), (RGB, 8), (RGB, 16)])
@pytest.mark.parametrize(("extra", "laid_over_white"), [(0, False), (1, True), (2, True)])
def test_alpha_is_laid_over_white_and_unspecified_samples_are_ignored(
    photometric: int, bits: int, extra: int, laid_over_white: bool, compression: int
):
    values = levels(photometric)
    stored = np.hstack([values * ALPHA if extra == 1 else values, ALPHA]) * (2**bits - 1)
    data = tiff(bars(np.round(stored)), photometric, bits, compression=compression, tags={338: [extra]})
    if PILLOW_12 and photometric == BLACK_IS_ZERO and extra < 2:
        assert "with these extra samples is not supported" in str(refusal(data))
        return
    expected = np.broadcast_to(255 * values, (4, 3))
    assert_shows(data, expected * ALPHA + 255 * (1 - ALPHA) if laid_over_white else expected)


@pytest.mark.parametrize("compression", [NONE, DEFLATE])
def test_a_palette_of_8_bit_values_is_not_black(compression: int):
    data = tiff(samples(PALETTE, 8), PALETTE, 8, compression=compression, tags={320: PALETTE_OF_256.ravel().tolist()})
    assert_shows(data, shown(PALETTE, 8))


@pytest.mark.parametrize(("across", "down"), [(1, 1), (2, 1), (1, 2), (2, 2), (4, 4)])
@pytest.mark.parametrize("compression", [NONE, DEFLATE])
def test_subsampled_ycbcr_is_decoded_or_refused(across: int, down: int, compression: int):
    pixels = np.round(bars(LUMA_CHROMA) * 255).astype(np.uint8)
    luma = pixels[..., 0].reshape(SIDE // down, down, -1, across).transpose(0, 2, 1, 3)  # y dy x dx -> y x dy dx
    units = [luma.reshape(*luma.shape[:2], -1), pixels[::down, ::across, 1:]]
    data = np.concatenate(units, axis=2).tobytes()
    tags = {256: [4 * SIDE], 257: [SIDE], 258: [8] * 3, 259: [compression], 262: [YCBCR], 277: [3], 278: [SIDE]}
    file = assembled(tags | {530: [across, down]}, [zlib.compress(data) if compression == DEFLATE else data])
    if compression == NONE and across * down > 1:
        with pytest.raises(UnsupportedImageError, match="subsampled"):
            open_rgb(file)
    else:
        assert_shows(file, YCBCR_SHOWN)


@pytest.mark.parametrize(
    "compression", ["tiff_lzw", "packbits", "tiff_adobe_deflate", "tiff_deflate", "zstd", "jpeg", "group3", "group4"]
)
def test_every_compression_shows_the_same(compression: str):
    fax = compression.startswith("group")
    values = GREY.round() if fax else COLOURS
    image = Image.fromarray(np.round(bars(values) * 255).astype(np.uint8).squeeze())
    stream = io.BytesIO()
    try:
        (image.convert("1") if fax else image).save(stream, "TIFF", compression=compression)
    except (OSError, RuntimeError) as error:
        pytest.skip(f"this libtiff writes no {compression}: {error}")
    assert_shows(stream.getvalue(), np.broadcast_to(values * 255, (4, 3)), within=8)


@pytest.mark.parametrize(
    ("number", "named"), [(6, "old-style JPEG"), (34712, "JPEG 2000"), (34925, "LZMA"), (50001, "WebP"), (9, "9")]
)
def test_other_compressions_are_refused_by_their_names(number: int, named: str):
    with pytest.raises(UnsupportedImageError, match=f"TIFF with .*{named} compression is not supported"):
        open_rgb(tiff(samples(RGB, 8), RGB, 8, tags={259: [number]}))


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        ({262: []}, "PhotometricInterpretation is missing"),
        ({273: [8] * 2}, "2 strips where its size needs 1"),
        ({278: [4]}, "1 strips where its size needs 4"),
        ({278: [0]}, "damaged"),
        ({256: []}, "damaged"),
        ({262: [PALETTE], 320: [0] * 30}, "palette has 30 values, not 768"),
        ({324: [8], 322: [64], 323: [16]}, "both strips and tiles"),
    ],
)
def test_contradictory_tags_are_refused(tags: Tags, said: str):
    with pytest.raises(BrokenImageError, match=said):
        open_rgb(tiff(samples(BLACK_IS_ZERO, 8), BLACK_IS_ZERO, 8, tags=tags))


def test_a_repeated_tag_is_refused():
    data = bytearray(tiff(samples(RGB, 8), RGB, 8))
    place = data.index(b"\x17\x01\x04\x00")  # StripByteCounts, by a short of ImageWidth
    data[place : place + 12] = b"\x00\x01\x03\x00\x01\x00\x00\x00\x40\x00\x00\x00"
    with pytest.raises(BrokenImageError, match="tag 256 is there twice"):
        open_rgb(bytes(data))


def test_a_directory_of_too_many_tags_is_refused():
    data = tiff(samples(RGB, 8), RGB, 8)
    with pytest.raises(ImageTooComplexError, match="more than"):
        open_rgb(data[:8] + (4097).to_bytes(2, "little") + data[10:])


@pytest.mark.parametrize("compression", [NONE, DEFLATE])
def test_tiles_far_larger_than_the_picture_are_refused(compression: int):
    tags = {322: [8192], 323: [8192]}
    data = tiff(samples(RGB, 8), RGB, 8, tile=(SIDE, 4 * SIDE), compression=compression, tags=tags)
    with pytest.raises(ImageTooLargeError, match="tiles are 8192x8192 pixels, far larger than its picture of 64x16"):
        open_rgb(data)


@pytest.mark.skipif(not shutil.which("convert"), reason="needs ImageMagick's convert")
@pytest.mark.parametrize(
    ("photometric", "bits", "sample_format"),
    [(p, bits, f) for (p, f), depths in DECODED.items() for bits in depths if (p, bits) not in {(0, 2), (0, 4)}],
)  # ImageMagick 6 shows WhiteIsZero of 2 and 4 bits as a negative; libvips 8.14 shows it as we do
def test_imagemagick_shows_the_same(photometric: int, bits: int, sample_format: int, tmp_path: Path):
    file, converted = tmp_path / "picture.tif", tmp_path / "picture.png"
    tags = palette(bits) if photometric == PALETTE else {530: [1, 1]}
    file.write_bytes(tiff(samples(photometric, bits, sample_format), photometric, bits, sample_format, tags=tags))
    command = ["convert", str(file), "-colorspace", "sRGB", "-depth", "8", f"PNG24:{converted}"]
    subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE)
    with Image.open(converted) as image:
        assert_shows(file.read_bytes(), colours(image), within=5)
