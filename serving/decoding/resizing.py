"""Resizes pixels on the device where they lie, as Pillow does: its filters, its order and its rounding.

ONNX Runtime multiplies the pixels with two matrices of weights, since that runs alike on every device. Its own Resize
cuts out no box, and on CUDA it left rows of a smaller picture undefined until 2025 (its issue 25264).
"""

from collections.abc import Callable
from math import ceil
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import PIL
from numpy.typing import NDArray

from labelwise.devices.sessions import open_exact_session

# By whether they scale vertically first. tests/serving/decoding/resize_graph.py makes them.
GRAPHS = {
    False: Path(__file__).with_name("resize_across_first.onnx"),
    True: Path(__file__).with_name("resize_down_first.onnx"),
}
LONGEST_SIDE = 8192  # of a picture to resize; its weights take 12 MiB for 384 pixels
_KNOWS_VERTICAL_FIRST = int(PIL.__version__.split(".")[0]) >= 13

Values = NDArray[np.float64]
Box = tuple[float, float, float, float]


class DevicePixels(NamedTuple):
    """uint8 [height, width, 3] without gaps, in a device's memory at `address`, as long as `owner` lives."""

    shape: tuple[int, int, int]
    address: int
    owner: object


class Resizer:
    """Resizes what lies on `device`, which is the GPU of that number or the CPU. Safe for several threads."""

    def __init__(self, device: Literal["cuda", "cpu"], gpu: int = 0) -> None:
        self._device, self._gpu = device, gpu
        number = None if device == "cpu" else gpu
        self._sessions = {first: open_exact_session(graph, number) for first, graph in GRAPHS.items()}

    def resize(
        self,
        pixels: DevicePixels,
        size: tuple[int, int],
        box: Box | None = None,
        interpolation: str = "bicubic",
        vertical_first: bool = False,
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Scales what is within `box` (left, top, right, bottom) to `size` (width, height).

        Returns uint8 [height, width, 3], and the last pixel of all, [3]. Blocks, and raises ONNX Runtime's own errors.
        """
        height, width, _ = pixels.shape
        left, top, right, bottom = box or (0, 0, width, height)
        session = self._sessions[vertical_first]
        binding = session.io_binding()
        binding.bind_input("pixels", self._device, self._gpu, np.uint8, pixels.shape, pixels.address)
        binding.bind_cpu_input("across", weights(width, (left, right), size[0], interpolation))
        binding.bind_cpu_input("down", weights(height, (top, bottom), size[1], interpolation))
        for name in ("resized", "last"):
            binding.bind_output(name, "cpu")
        session.run_with_iobinding(binding)
        resized, last = binding.copy_outputs_to_cpu()
        return resized, last.reshape(3)


def is_vertical_first(source: tuple[int, int], target: tuple[int, int]) -> bool:
    """Whether Pillow scales a picture of the size `source` (width, height) to `target` vertically first.

    Since version 13 it does if the height loses more than twice as many pixels as the width (its pull request 9549).
    The order shows, because each direction is rounded to bytes.
    """
    less_width, less_height = (old - new for old, new in zip(source, target, strict=True))
    return _KNOWS_VERTICAL_FIRST and less_height >= 0 and less_height > 2 * less_width


def weights(size: int, part: tuple[float, float], target: int, interpolation: str) -> NDArray[np.float32]:
    """Returns what each of `size` pixels adds to each of `target`, which cover `part` of them: [target, size]."""
    kernel, radius = _KERNELS[interpolation]
    scale = (part[1] - part[0]) / target
    stretch = max(scale, 1.0)  # a filter for a smaller picture averages over more pixels
    centres = (part[0] + (np.arange(target) + 0.5) * scale)[:, np.newaxis]
    first = np.maximum(np.trunc(centres - radius * stretch + 0.5), 0)
    places = first + np.arange(2 * ceil(radius * stretch) + 1)
    shares = np.where(places < size, kernel(np.abs(places + 0.5 - centres) / stretch), 0)
    shares /= shares.sum(axis=1, keepdims=True)
    found = np.zeros((target, size + 1), np.float32)  # the last column takes the places beyond
    np.put_along_axis(found, np.minimum(places, size).astype(np.int64), shares.astype(np.float32), axis=1)
    return np.ascontiguousarray(found[:, :size])


def _bilinear(distance: Values) -> Values:
    return np.maximum(1 - distance, 0)


def _bicubic(distance: Values) -> Values:
    """Keys's convolution with a = -0.5."""
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return np.where(distance < 1, near, np.where(distance < 2, far, 0))


def _lanczos(distance: Values) -> Values:
    return np.where(distance < 3, np.sinc(distance) * np.sinc(distance / 3), 0)


# The kernels by their names in a contract, and beyond which distance they are 0.
_KERNELS: dict[str, tuple[Callable[[Values], Values], int]] = {
    "bilinear": (_bilinear, 1),
    "bicubic": (_bicubic, 2),
    "lanczos": (_lanczos, 3),
}
