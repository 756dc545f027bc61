"""The ways in which an image can be unusable."""


class ImageError(ValueError):
    """The image cannot be tagged. `code` is stable; the message is one line for the sender of the image."""

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


class ImageTooComplexError(ImageError):
    code = "image_too_complex"
