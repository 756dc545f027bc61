"""Any of Pillow's modes to RGB in sRGB, with transparency laid over white."""

import io

import numpy as np
from PIL import Image, ImageCms

_ROWS = 256
_SRGB = ImageCms.createProfile("sRGB")


def to_rgb(image: Image.Image) -> Image.Image:
    """In sRGB, over white."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _to_8_bit(image).convert("RGB")
    if not image.has_transparency_data:
        return _to_srgb(image.convert("RGB") if image.mode == "P" else image)
    rgba = _in_mode(image, "RGBA")
    white = Image.new("RGB", rgba.size, "white")
    white.paste(_to_srgb(rgba.convert("RGB")), mask=rgba.getchannel("A"))
    return white


def _to_8_bit(image: Image.Image) -> Image.Image:
    """16-bit and float images to 8 bits over their full range; Pillow's own conversion clips at 255."""
    values = np.asarray(image)
    brightest = float(np.nanmax(values, initial=0)) if image.mode == "F" else 65535
    scale = 255 / brightest if brightest > 1 else 255
    transparent = image.info.get("transparency")  # in a grey PNG one value, which is laid over white here
    grey = np.empty(values.shape, np.uint8)
    for top in range(0, len(values), _ROWS):  # in strips: as floats, a large picture would take a gigabyte
        strip = values[top : top + _ROWS].astype(np.float32)
        grey[top : top + _ROWS] = np.nan_to_num(strip * scale).clip(0, 255).round()
        if transparent is not None:
            grey[top : top + _ROWS][strip == transparent] = 255
    return Image.fromarray(grey)


def _to_srgb(image: Image.Image) -> Image.Image:
    """To RGB, by way of the image's ICC profile where it has another than sRGB; a broken profile does not count."""
    profile = image.info.get("icc_profile")
    if profile and image.mode in ("RGB", "CMYK", "L"):
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if "srgb" not in ImageCms.getProfileDescription(source).lower():
                converted = ImageCms.profileToProfile(image, source, _SRGB, outputMode="RGB")
                return converted or _in_mode(image, "RGB")
        except (ImageCms.PyCMSError, OSError):
            pass
    return _in_mode(image, "RGB")


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    """Converted; without the copy that Pillow makes of an image that is in this mode already."""
    return image if image.mode == mode else image.convert(mode)
