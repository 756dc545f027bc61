"""What can be wrong with an image, and Pillow's exceptions brought into these terms."""

from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image, UnidentifiedImageError

from .formats import accepted_formats


class ImageError(ValueError):
    """An image that cannot be tagged. `code` is stable; the message is one line for whoever sent the image."""

    code = "image_invalid"


class EmptyImageError(ImageError):
    code = "image_empty"


class UnsupportedImageError(ImageError):
    code = "image_format_unsupported"


class BrokenImageError(ImageError):
    code = "image_broken"


class ImageTooLargeError(ImageError):
    code = "image_too_many_pixels"


class ImageTooSmallError(ImageError):
    code = "image_too_small"


@contextmanager
def translated_errors() -> Iterator[None]:
    """Raises an ImageError for whatever the block raises."""
    try:
        yield
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLargeError("The image has more pixels than can be decoded here; send a smaller one.") from error
    except UnidentifiedImageError as error:
        names = ", ".join(accepted_formats())
        raise UnsupportedImageError(f"The bytes are not an image of an accepted format ({names}).") from error
    except MemoryError as error:
        raise ImageTooLargeError("The image needs more memory than there is; send a smaller one.") from error
    except Exception as error:  # Pillow's plugins raise anything, from SyntaxError to struct.error, on hostile bytes
        raise BrokenImageError(
            "The image is damaged or incomplete and cannot be decoded; send it again whole."
        ) from error
