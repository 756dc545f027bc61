"""The ways of decoding that `benchmarks/decode.py` compares: each turns a file into pixels of SIDE x SIDE.

Run as a program with the name of a way, this reads lines of JSON: the path of a photo, a number of turns, and the path
for the pixels. It imports only labelwise.image, NumPy, Pillow and the way's own packages.
"""

import functools
import io
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from labelwise.image import load_pixels, open_rgb

SIDE = 224
_LEAST = 2 * SIDE  # the smallest side of a reduced scale, as in labelwise.image
Way = Callable[[bytes], np.ndarray]


def labelwise(data: bytes) -> np.ndarray:
    return load_pixels(data, SIDE, SIDE)


def whole(data: bytes) -> np.ndarray:
    return _by_pillow(open_rgb(data))


def simplejpeg(data: bytes) -> np.ndarray:
    import simplejpeg

    pixels = simplejpeg.decode_jpeg(data, min_height=_LEAST, min_width=_LEAST)
    return _by_pillow(Image.fromarray(_turned(pixels, data)))


def turbojpeg(data: bytes) -> np.ndarray:
    from turbojpeg import TJPF_RGB

    jpeg = _turbojpeg()
    width, height, *_ = jpeg.decode_header(data)
    pixels = jpeg.decode(data, pixel_format=TJPF_RGB, scaling_factor=(1, _reduction(width, height)))
    return _by_pillow(Image.fromarray(_turned(pixels, data)))


def pyvips(data: bytes) -> np.ndarray:
    import pyvips

    image = pyvips.Image.thumbnail_buffer(data, SIDE, height=SIDE, size="force", export_profile="srgb")
    return image.numpy()


def opencv(data: bytes) -> np.ndarray:
    import cv2

    with Image.open(io.BytesIO(data)) as header:
        scale = _reduction(*header.size)
    flags = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4}
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags.get(scale, cv2.IMREAD_REDUCED_COLOR_8))
    small = cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(small, cv2.COLOR_BGR2RGB)


def cykooz(data: bytes) -> np.ndarray:
    resizer, options = _cykooz()
    small = Image.new("RGB", (SIDE, SIDE))
    resizer.resize_pil(open_rgb(data, draft_side=_LEAST), small, options)
    return np.asarray(small)


def kornia(data: bytes) -> np.ndarray:
    from kornia_rs.imgproc import resize

    return resize(np.asarray(open_rgb(data, draft_side=_LEAST)), (SIDE, SIDE), "bicubic", antialias=True)


WAYS: dict[str, Way] = {
    way.__name__: way for way in (labelwise, whole, simplejpeg, turbojpeg, pyvips, opencv, cykooz, kornia)
}


def _by_pillow(image: Image.Image) -> np.ndarray:
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def _reduction(width: int, height: int) -> int:
    """Returns the largest of 8, 4, 2 and 1 by which both sides may be divided, as Pillow's draft does."""
    return max(scale for scale in (1, 2, 4, 8) if scale * _LEAST <= min(width, height) or scale == 1)


def _turned(pixels: np.ndarray, data: bytes) -> np.ndarray:
    """Applies the EXIF orientation, for decoders that ignore it."""
    with Image.open(io.BytesIO(data)) as header:
        exif = header.getexif()
    if exif.get(0x0112, 1) == 1:
        return pixels
    image = Image.fromarray(pixels)
    image.getexif()[0x0112] = exif[0x0112]
    return np.asarray(ImageOps.exif_transpose(image))


@functools.cache
def _turbojpeg():
    from turbojpeg import TurboJPEG

    return TurboJPEG()


@functools.cache
def _cykooz():
    from cykooz_resizer import FilterType, ResizeAlg, ResizeOptions, Resizer

    return Resizer(), ResizeOptions(resize_alg=ResizeAlg.convolution(FilterType.catmull_rom))


def main(name: str) -> None:
    """Answers each line of the standard input with the milliseconds of processor time of each turn, or an error."""
    way = WAYS[name]
    for line in sys.stdin:
        photo, turns, target = json.loads(line)
        data, spent = Path(photo).read_bytes(), []
        try:
            np.save(target, way(data))
            for _ in range(turns):
                started = time.process_time()  # all threads
                way(data)
                spent.append(1000 * (time.process_time() - started))
            print(json.dumps({"ms": spent}), flush=True)
        except Exception as error:
            print(json.dumps({"error": f"{type(error).__name__}: {error}"}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
