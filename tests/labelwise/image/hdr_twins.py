"""HDR versions of SDR pixels, by the formulas of ITU-R BT.2100 and BT.2087, with SDR's white at 203 cd/m2."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

PQ, HLG = 16, 18
_BT709_TO_BT2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
_LUMINANCE = np.array([0.2627, 0.6780, 0.0593])


def hdr_signal(sdr: Image.Image, transfer: int, white: float = 203) -> NDArray[np.float64]:
    """Returns the signal [h, w, 3], 0 to 1, in BT.2020, whose white is `white` cd/m2."""
    value = np.asarray(sdr.convert("RGB")) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    light = white * linear @ _BT709_TO_BT2020.T
    return pq(light) if transfer == PQ else _hlg(light)


def pq(light: NDArray[np.float64]) -> NDArray[np.float64]:
    power = (light / 10_000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


def _hlg(light: NDArray[np.float64]) -> NDArray[np.float64]:
    display = light / 1000
    luminance = np.maximum(display @ _LUMINANCE, 1e-9)[..., np.newaxis]
    scene = display * luminance ** (1 / 1.2 - 1)
    upper = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), upper)


def as_levels(signal: NDArray[np.float64]) -> Image.Image:
    return Image.fromarray((signal * 255).round().clip(0, 255).astype(np.uint8))


def avif(image: Image.Image, primaries: int, transfer: int) -> bytes:
    """An AVIF that states these numbers in its `nclx` box; Pillow always writes BT.709 and sRGB there."""
    stream = io.BytesIO()
    image.save(stream, "AVIF", quality=100, subsampling="4:4:4", speed=10)
    before, mark, after = stream.getvalue().partition(b"nclx\0\x01\0\x0d")
    assert mark
    return before + b"nclx" + bytes([0, primaries, 0, transfer]) + after
