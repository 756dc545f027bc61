"""The formats that are decoded."""

from PIL import Image

try:
    from pillow_heif import register_heif_opener
except ImportError:  # Pillow alone reads no HEIC; the extra `heif` installs the plugin
    pass
else:
    register_heif_opener()

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF")
SUFFIXES = (*(".jpg", ".jpeg", ".png", ".webp", ".avif", ".gif", ".bmp", ".tif", ".tiff"), ".heic", ".heif")


def accepted_formats() -> tuple[str, ...]:
    """Returns those of FORMATS that this Pillow can open, and HEIF where its plugin is installed."""
    Image.init()
    return tuple(name for name in (*FORMATS, "HEIF") if name in Image.OPEN)
