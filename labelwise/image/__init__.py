"""Decodes photos to RGB uint8 pixels: the only decode and resize code of the project.

Training's evaluation, the gateway, the clients and Triton's decode model all call `load_pixels`, so they all see the
same pixels of a photo. Export copies this package beside Triton's decode model as `labelwise_image`. So it imports
only Pillow and NumPy, and its own modules only relatively.

Read `loading` first: it has the steps in order. The other modules by topic:

- opening and refusing files: `opening`, `complexity`, `structure`, `budget`, `image_errors`
- formats: `jpeg`, `plain_jpeg`, `png`; `tiff` and `tiff_tags`, also for EXIF
- AVIF and HEIF: `isobmff`, `frame_sizes`
- what is shown: `orientation`, `colour`, `icc`, `cicp`, `hdr`
"""

from .complexity import ordinary
from .image_errors import ImageError, ImageTooComplexError
from .loading import Hold, Photo, centre_box, load_photo, load_pixels, open_rgb, open_small
from .opening import FORMATS, MAX_PIXELS, SUFFIXES

__all__ = [
    "FORMATS",
    "MAX_PIXELS",
    "SUFFIXES",
    "Hold",
    "ImageError",
    "ImageTooComplexError",
    "Photo",
    "centre_box",
    "load_photo",
    "load_pixels",
    "open_rgb",
    "open_small",
    "ordinary",
]
