"""ICC profiles, judged by what they do to colours, never by their names."""

import functools
import io
import struct
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageCms

from .cicp import Chromaticities, Cicp, Curve, adapted, to_xyz

_SRGB = ImageCms.createProfile("sRGB")
# Pillow's sRGB profile has version 4. With the perceptual intent, LittleCMS then darkens a print's black to 0, unlike
# other programs.
_INTENT = ImageCms.Intent.RELATIVE_COLORIMETRIC
_D50 = np.array([0.9642, 1.0, 0.8249])
_SAME = 3  # levels of 255, by which vendors' sRGB profiles differ from each other
_CURVE_STEPS = 4096
_MOST_TAGS = 256
_CACHED = 16
_LARGEST_CACHED = 2**20  # bytes; larger profiles are for printing and would fill the cache

# The mode in which pixels go through a profile of each colour space.
_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}


class ProfileError(ValueError):
    """The profile cannot be used for these pixels. The message is for the sender of the photo."""


def to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Converts an image of mode L, RGB or CMYK to RGB in sRGB. Raises ProfileError."""
    mode, transform = _transform_of(profile)
    if mode != image.mode:
        image = _fitting(image, mode)
    if transform is None:
        return image.convert("RGB") if image.mode == "L" else image
    return _by_table(image, transform) if mode == "L" else transform.apply(image)


def leaves_rgb(profile: bytes) -> bool:
    """Whether the profile is for RGB, and changes nothing of it."""
    with suppress(ProfileError):
        return _transform_of(profile) == ("RGB", None)
    return False


def _transform_of(profile: bytes) -> tuple[str, ImageCms.ImageCmsTransform | None]:
    return _transform(profile) if len(profile) <= _LARGEST_CACHED else _build(profile)


def _by_table(image: Image.Image, transform: ImageCms.ImageCmsTransform) -> Image.Image:
    """Converts grey through a table of its 256 levels, since the exact transform is slow."""
    levels = np.asarray(transform.apply(Image.fromarray(np.arange(256, dtype=np.uint8)[np.newaxis])))[0]
    return Image.merge("RGB", [image.point(channel.tolist()) for channel in levels.T])


def _fitting(image: Image.Image, mode: str) -> Image.Image:
    """Converts a grey picture between L and RGB for a profile of the other mode. Raises ProfileError."""
    if (image.mode, mode) == ("L", "RGB") or ((image.mode, mode) == ("RGB", "L") and _is_grey(image)):
        return image.convert(mode)
    wanted, given = ("grey" if kind == "L" else kind for kind in (mode, image.mode))
    raise ProfileError(f"The photo's colour profile is for {wanted} pixels and they are {given}")


def _is_grey(image: Image.Image) -> bool:
    red, green, blue = image.split()
    return not (ImageChops.difference(red, green).getbbox() or ImageChops.difference(green, blue).getbbox())


def _build(profile: bytes) -> tuple[str, ImageCms.ImageCmsTransform | None]:
    """Returns the mode that the profile is for, and its transform to sRGB, or None if that changes nothing."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = source.profile.xcolor_space.strip()
        if space not in _MODES:
            raise ProfileError(f"The photo's colour profile is for {space} pixels, which is not supported")
        # Otherwise LittleCMS interpolates grey between 33 levels, which loses the dark end of a linear curve.
        flags = ImageCms.Flags.NOOPTIMIZE if space == "GRAY" else ImageCms.Flags.NONE
        transform = ImageCms.buildTransform(source, _SRGB, _MODES[space], "RGB", _INTENT, flags)
    except (ImageCms.PyCMSError, OSError) as error:
        raise ProfileError("The photo's colour profile is broken") from error
    return _MODES[space], None if _changes_nothing(transform, _MODES[space]) else transform


_transform = functools.lru_cache(_CACHED)(_build)


def _changes_nothing(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    if mode == "CMYK":
        return False
    probe = Image.fromarray(_PROBE).convert(mode)
    difference = np.asarray(transform.apply(probe), np.int16) - np.asarray(probe.convert("RGB"), np.int16)
    return int(np.abs(difference).max()) <= _SAME


def _probe() -> NDArray[np.uint8]:
    """Returns colours from the whole cube, and all greys: uint8 [1, n, 3]."""
    cube = np.stack(np.meshgrid(*[np.linspace(0, 255, 9)] * 3), -1).reshape(1, -1, 3)
    greys = np.repeat(np.arange(256.0), 3).reshape(1, -1, 3)
    colours: NDArray[np.uint8] = np.concatenate([cube, greys], 1).round().astype(np.uint8)
    return colours


_PROBE = _probe()


def stated_cicp(profile: bytes) -> Cicp | None:
    """Returns what a profile's `cicp` tag says (ICC.1:2022, 9.2.17)."""
    (count,) = struct.unpack_from(">I", profile, 128) if len(profile) >= 132 else (0,)
    for entry in range(132, min(132 + 12 * min(count, _MOST_TAGS), len(profile) - 11), 12):
        signature, offset, size = struct.unpack_from(">4sII", profile, entry)
        if signature == b"cicp" and size >= 12 and offset + 12 <= len(profile):
            return Cicp(profile[offset + 8], profile[offset + 9])
    return None


def make_profile(chromaticities: Chromaticities, curve: Curve) -> bytes:
    """Returns an ICC profile (version 2, matrix and curves) for RGB with these primaries and this curve."""
    matrix = adapted(to_xyz(chromaticities), _D50)  # columns: red, green, blue
    light = np.clip(curve(np.linspace(0, 1, _CURVE_STEPS)), 0, 1)
    sampled = struct.pack(">4sII", b"curv", 0, _CURVE_STEPS) + (light * 65535).round().astype(">u2").tobytes()
    bodies = [_xyz(matrix[:, channel]) for channel in range(3)] + [_xyz(_D50), sampled]
    tags = {b"rXYZ": 0, b"gXYZ": 1, b"bXYZ": 2, b"wtpt": 3, b"rTRC": 4, b"gTRC": 4, b"bTRC": 4}
    start = 128 + 4 + 12 * len(tags)
    offsets = np.cumsum([start, *map(len, bodies)])
    table = b"".join(struct.pack(">4sII", tag, offsets[at], len(bodies[at])) for tag, at in tags.items())
    header = struct.pack(">I4xI4s4s4s12x4s", offsets[-1], 0x02400000, b"mntr", b"RGB ", b"XYZ ", b"acsp")
    header += bytes(68 - len(header)) + _xyz(_D50)[8:]
    return header + bytes(128 - len(header)) + struct.pack(">I", len(tags)) + table + b"".join(bodies)


def _xyz(values: NDArray[np.float64]) -> bytes:
    return struct.pack(">4sI3i", b"XYZ ", 0, *(round(value * 65536) for value in values))
