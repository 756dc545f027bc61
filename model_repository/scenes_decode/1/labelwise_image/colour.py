"""Any of Pillow's modes to RGB in sRGB, with transparency laid over white."""

import io

from PIL import Image, ImageCms

from .depth import to_8_bit

_SRGB = ImageCms.createProfile("sRGB")


def to_rgb(image: Image.Image) -> Image.Image:
    """In sRGB, over white."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return to_8_bit(image).convert("RGB")
    if not image.has_transparency_data:
        return _to_srgb(image.convert("RGB") if image.mode == "P" else image)
    rgba = _in_mode(image, "RGBA")
    white = Image.new("RGB", rgba.size, "white")
    white.paste(_to_srgb(rgba.convert("RGB")), mask=rgba.getchannel("A"))
    return white


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
