"""Converts any of Pillow's modes to RGB in sRGB, with transparency laid over white."""

import functools
import struct

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .cicp import CURVES, PRIMARIES, SRGB_PRIMARIES, UNSPECIFIED, Chromaticities, Cicp, gamma, srgb
from .hdr import to_sdr
from .icc import ProfileError, leaves_rgb, make_profile, stated_cicp, to_srgb
from .isobmff import read_nclx
from .png import read_png_cicp
from .tiff import WHITE_IS_ZERO

# What a file states about its colours: a number, an ICC profile, or nothing. An empty profile stands for a broken one.
Space = Cicp | bytes | None

_SRGB_GAMMA = 0.45455  # what most programs write for sRGB
_BMP_V5 = struct.Struct("<14xI52xI52xII")  # header's size, kind of colour space, the profile's offset and size
_BMP_V5_BYTES, _BMP_EMBEDDED = 124, 0x4D424544
_BITS, _PHOTOMETRIC = 258, 262  # TIFF's tags
_ROWS = 256
_LEVELS = np.arange(256)


def to_rgb(image: Image.Image, data: bytes) -> tuple[Image.Image, tuple[str, ...]]:
    """Converts a picture, decoded from `data`, to sRGB over white.

    Also returns what had to be assumed about its colours, one sentence each.
    """
    space = _stated_space(image, data)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _of_deep_grey(image, space)
    if not image.has_transparency_data:
        return _to_srgb(image, space)
    image = _in_mode(image, "LA" if image.mode in ("1", "L", "LA", "La") else "RGBA")
    alpha = image.getchannel("A")
    opaque, notes = _to_srgb(image.convert("L" if image.mode == "LA" else "RGB"), space)
    white = Image.new("RGB", opaque.size, "white")
    white.paste(opaque, mask=alpha)
    return white, notes


def is_srgb(image: Image.Image, data: bytes) -> bool:
    """Whether the RGB values of `image`, opened from `data`, are shown as they are. It need not be decoded."""
    space = _stated_space(image, data)
    return space is None or (isinstance(space, bytes) and leaves_rgb(space))


def _of_deep_grey(image: Image.Image, space: Space) -> tuple[Image.Image, tuple[str, ...]]:
    """Converts grey of more than 8 bits: 256 levels are converted, and those between are interpolated."""
    if space is None or (isinstance(space, Cicp) and space.is_hdr):  # HDR depends on the whole picture
        return _to_srgb(_to_8_bit(image), space)
    levels, notes = _to_srgb(Image.fromarray(np.arange(256, dtype=np.uint8)[np.newaxis]), space)
    return _to_8_bit(image, np.asarray(levels)[0, :, 1]).convert("RGB"), notes


def _to_8_bit(image: Image.Image, curve: NDArray[np.uint8] | None = None) -> Image.Image:
    """Converts grey of 12, 16 or 32 bits to 8 bits over its full range; Pillow's own conversion clips at 255.

    Floating-point samples range from 0 to 1, or to the brightest sample if that is above 1. A `curve` of 256 levels
    is applied before the samples are rounded, since rounding leaves few dark levels.
    """
    tags = getattr(image, "tag_v2", {})
    values = np.asarray(image)
    if image.mode == "I":
        values = values.view(np.uint32)  # Pillow reads them as signed
    scale = 255 / (_brightest(values) if image.mode == "F" else 2 ** tags.get(_BITS, (16,))[0] - 1)
    offset = 255 if tags.get(_PHOTOMETRIC) == WHITE_IS_ZERO else 0
    scale = -scale if offset else scale
    transparent = image.info.get("transparency")  # in a grey PNG, the one value that is transparent; it becomes white
    grey = np.empty(values.shape, np.uint8)
    for top in range(0, len(values), _ROWS):  # in strips: a large picture would take a gigabyte as floats
        strip = values[top : top + _ROWS].astype(np.float32)
        levels = np.nan_to_num(strip * scale + offset).clip(0, 255)
        grey[top : top + _ROWS] = (levels if curve is None else np.interp(levels, _LEVELS, curve)).round()
        if transparent is not None:
            grey[top : top + _ROWS][strip == transparent] = 255
    return Image.fromarray(grey)


def _brightest(values: NDArray[np.float32]) -> float:
    """Returns the largest finite value, but at least 1."""
    return float(max(np.max(strip, initial=1, where=np.isfinite(strip)) for strip in np.array_split(values, _ROWS)))


def _stated_space(image: Image.Image, data: bytes) -> Space:
    """Returns what the file states about its colours.

    If it states several things, the first of these counts, as in browsers. PNG: cICP, ICC, sRGB, gAMA with cHRM. AVIF
    and HEIF: ICC, nclx.
    """
    number = read_png_cicp(data) if image.format == "PNG" else None
    if number and number.is_known and UNSPECIFIED not in number:
        return number
    if "icc_profile" in image.info:
        profile: bytes = image.info["icc_profile"] or b""
        stated = stated_cicp(profile)
        return stated if stated and stated.is_hdr else profile
    if image.format in ("AVIF", "HEIF"):
        return read_nclx(data)
    if image.format == "BMP":
        return _bmp_profile(data)
    if "gamma" in image.info and "srgb" not in image.info:
        return _of_gamma(image.info["gamma"], image.info.get("chromaticity", SRGB_PRIMARIES))
    return number if number and not number.is_known else None


def _bmp_profile(data: bytes) -> bytes | None:
    """Returns the profile in a header of version 5, or None if there is none."""
    if len(data) < _BMP_V5.size:
        return None
    size, kind, offset, length = _BMP_V5.unpack_from(data)
    return data[14 + offset :][:length] if size == _BMP_V5_BYTES and kind == _BMP_EMBEDDED else None


@functools.lru_cache(16)
def _of_gamma(exponent: float, chromaticities: Chromaticities) -> bytes | None:
    """Returns a profile for a PNG's gAMA and cHRM, or None if they mean sRGB or make no sense."""
    if np.allclose(chromaticities, SRGB_PRIMARIES, atol=0.001):
        if abs(exponent - _SRGB_GAMMA) < 0.005:
            return None
        chromaticities = SRGB_PRIMARIES
    try:
        with np.errstate(divide="raise", invalid="raise", over="raise"):
            return make_profile(chromaticities, gamma(1 / exponent))
    except (np.linalg.LinAlgError, ArithmeticError, ValueError, struct.error):
        return None


def _to_srgb(image: Image.Image, space: Space) -> tuple[Image.Image, tuple[str, ...]]:
    if image.mode not in ("L", "RGB", "CMYK"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    try:
        return _converted(image, space), ()
    except ProfileError as error:
        return _in_mode(image, "RGB"), (f"{error}; its colours are taken as sRGB.",)


def _converted(image: Image.Image, space: Space) -> Image.Image:
    if isinstance(space, Cicp):
        if not space.is_known:
            raise ProfileError(f"The photo's colour space (CICP {space.primaries}/{space.transfer}) is not supported")
        if space.is_hdr:
            return to_sdr(_in_mode(image, "RGB"), space)
        space = _cicp_profile(space)
    return _in_mode(image, "RGB") if space is None else to_srgb(image, space)


@functools.lru_cache
def _cicp_profile(space: Cicp) -> bytes | None:
    chromaticities, curve = PRIMARIES[space.primaries], CURVES[space.transfer]
    if chromaticities == SRGB_PRIMARIES and curve is srgb:
        return None
    return make_profile(chromaticities, curve)


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    """Converts to `mode`; unlike Pillow, does not copy an image that has this mode already."""
    return image if image.mode == mode else image.convert(mode)
