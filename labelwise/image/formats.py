"""The formats that are decoded."""

import functools

from PIL import Image

try:
    from pillow_heif import register_heif_opener
except ImportError:  # Pillow alone reads no HEIC; the extra `heif` installs the plugin
    pass
else:
    register_heif_opener()

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF")
# What the names of photos end in, in any case: the one list for training, export and bulk tagging.
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".jfi", ".jif", ".mpo"),
    *(".png", ".apng", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff"),
    *(".avif", ".avifs", ".heic", ".heics", ".heif", ".heifs", ".hif"),
)


@functools.cache
def accepted_formats() -> tuple[str, ...]:
    """Returns those of FORMATS that this Pillow can open, and HEIF where its plugin is installed."""
    Image.init()
    return tuple(name for name in (*FORMATS, "HEIF") if name in Image.OPEN)
