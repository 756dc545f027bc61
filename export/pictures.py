"""The photos that a check runs on: those that the user names, or reproducible test pictures."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from export.onnx_file import Pixels
from labelwise.errors import DataError
from labelwise.image import SUFFIXES, ImageError, load_pixels
from labelwise.spec import ImageSpec, TrainedSpec

_AT_MOST = 64  # a check runs each photo several times


@dataclass(frozen=True)
class Evidence:
    """What to check with.

    `images` and `calibrate` name folders or lists of photos: to check with, and to calibrate int8 with. Without
    `images` a check takes those of `calibrate`, without both test pictures. `data` names labelled photos as `labelwise
    train` takes them, for mAP and tags.
    """

    images: Path | None = None
    calibrate: Path | None = None
    data: str | None = None


NO_EVIDENCE = Evidence()


@dataclass(frozen=True)
class Pictures:
    """Pictures uint8 [n, h, w, 3], n >= 1, and a name for each."""

    names: tuple[str, ...]
    pixels: Pixels

    def batches(self, size: int) -> Iterator[list[int]]:
        """The rows of all pictures in batches of exactly `size`; the last batch is filled up from the first picture."""
        for start in range(0, len(self.names), size):
            yield [row % len(self.names) for row in range(start, start + size)]


def pictures_for(spec: TrainedSpec, images: Path | None, at_most: int = _AT_MOST) -> Pictures:
    """Decodes an even sample of the photos in the folder or list `images`, or draws test pictures. DataError."""
    if images is None:
        return drawn_pictures(spec.image, min(spec.max_batch, at_most))
    files = photo_files(images)
    count = min(len(files), at_most)
    chosen = [files[index * len(files) // count] for index in range(count)]
    return Pictures(tuple(map(str, chosen)), np.stack([_decode(file, spec.image) for file in chosen]))


def drawn_pictures(image: ImageSpec, count: int) -> Pictures:
    """Reproducible pictures with coarse and fine structure; noise alone would excite too few features."""
    random = np.random.default_rng(0)
    height, width = image.height, image.width
    coarse = random.integers(0, 256, (count, 8, 8, 3))
    grown = coarse.repeat(-(-height // 8), axis=1).repeat(-(-width // 8), axis=2)[:, :height, :width]
    pixels = (grown + random.integers(-40, 41, grown.shape)).clip(0, 255).astype(np.uint8)
    return Pictures(tuple(f"test picture {number}" for number in range(1, count + 1)), pixels)


def photo_files(images: Path) -> list[Path]:
    """Every photo under a folder, or those that a text file names, one per line, relative to the file."""
    try:
        if images.is_dir():
            files = sorted(file for file in images.rglob("*") if file.suffix.lower() in SUFFIXES)
        elif images.suffix.lower() in SUFFIXES:
            files = [images]
        else:
            lines = images.read_text("utf-8").splitlines()
            files = [images.parent / line.strip() for line in lines if line.strip()]
    except UnicodeDecodeError as error:
        raise DataError(f"{images} is neither a photo nor a list of photos with one path per line.") from error
    except OSError as error:
        raise DataError(f"{images} cannot be read: {error.strerror}; name a folder or a list of photos.") from error
    if not files:
        raise DataError(f"{images} has no photos ({', '.join(sorted(SUFFIXES))}).")
    return files


def _decode(file: Path, image: ImageSpec) -> Pixels:
    try:
        return load_pixels(file.read_bytes(), image.height, image.width, image.resize, image.interpolation)
    except ImageError as error:
        raise DataError(f"{file} cannot be decoded: {error}") from error
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}.") from error
