"""The image formats that are decoded."""

import functools

from PIL import Image

try:
    from pillow_heif import register_heif_opener
except ImportError:  # Pillow alone reads no HEIC; the extra `heif` installs the plugin
    pass
else:
    register_heif_opener()

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF")
# How file names of photos end, in upper or lower case; training, export and bulk tagging share this list.
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".jfi", ".jif", ".mpo"),
    *(".png", ".apng", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff"),
    *(".avif", ".avifs", ".heic", ".heics", ".heif", ".heifs", ".hif"),
)


@functools.cache
def accepted_formats() -> tuple[str, ...]:
    """Returns the FORMATS that this Pillow can open, and HEIF if its plugin is installed."""
    Image.init()
    return tuple(name for name in (*FORMATS, "HEIF") if name in Image.OPEN)
