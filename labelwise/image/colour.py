"""Converts any of Pillow's modes to RGB in sRGB, with transparency laid over white."""

import functools
import struct

import numpy as np
from PIL import Image

from .bmp import bmp_profile
from .cicp import CURVES, PRIMARIES, SRGB_PRIMARIES, UNSPECIFIED, Chromaticities, Cicp, gamma, srgb
from .depth import to_8_bit
from .hdr import to_sdr
from .icc import ProfileError, make_profile, stated_cicp, to_srgb
from .nclx import read_nclx
from .png import read_png_cicp

# What a file states about its colours: a number, an ICC profile, or nothing. An empty profile stands for a broken one.
Space = Cicp | bytes | None

_SRGB_GAMMA = 0.45455  # what most programs write for sRGB


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


def _of_deep_grey(image: Image.Image, space: Space) -> tuple[Image.Image, tuple[str, ...]]:
    """Converts grey of more than 8 bits: 256 levels are converted, and those between are interpolated."""
    if space is None or (isinstance(space, Cicp) and space.is_hdr):  # HDR depends on the whole picture
        return _to_srgb(to_8_bit(image), space)
    levels, notes = _to_srgb(Image.fromarray(np.arange(256, dtype=np.uint8)[np.newaxis]), space)
    return to_8_bit(image, np.asarray(levels)[0, :, 1]).convert("RGB"), notes


def _stated_space(image: Image.Image, data: bytes) -> Space:
    """Returns what the file states about its colours.

    If it states several things, the first of these counts, as in browsers. PNG: cICP, ICC, sRGB, gAMA with cHRM. AVIF
    and HEIF: ICC, nclx.
    """
    number = read_png_cicp(data) if image.format == "PNG" else None
    if number and number.is_known and UNSPECIFIED not in number:
        return number
    if "icc_profile" in image.info:
        return _of_profile(image.info["icc_profile"] or b"")
    if image.format in ("AVIF", "HEIF"):
        return read_nclx(data)
    if image.format == "BMP":
        return bmp_profile(data)
    if "gamma" in image.info and "srgb" not in image.info:
        return _of_gamma(image.info["gamma"], image.info.get("chromaticity", SRGB_PRIMARIES))
    return number if number and not number.is_known else None


def _of_profile(profile: bytes) -> Space:
    stated = stated_cicp(profile)
    return stated if stated and stated.is_hdr else profile


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
