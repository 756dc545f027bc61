"""Resizing by two matrices, on the CPU's provider of ONNX Runtime, against Pillow."""

import numpy as np
import pytest
from PIL import Image

from serving.decoding.resizing import GRAPHS, DevicePixels, Resizer, is_vertical_first
from tests.serving.decoding.resize_graph import build

FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@pytest.mark.parametrize("vertical_first", GRAPHS)
def test_the_graphs_are_those_that_are_built_here(vertical_first: bool) -> None:
    assert GRAPHS[vertical_first].read_bytes() == build(vertical_first).SerializeToString()


@pytest.mark.parametrize("interpolation", FILTERS)
@pytest.mark.parametrize(
    ("width", "height", "size", "box"),
    [
        (640, 427, (224, 224), None),
        (427, 640, (224, 224), None),  # vertically first, since Pillow 13
        (450, 640, (224, 224), None),  # not
        (300, 640, (384, 384), (10.5, 20.0, 280.0, 620.25)),
        (31, 34, (64, 68), None),
        (640, 427, (224, 224), (106.5, 0.0, 533.5, 427.0)),
        (31, 17, (64, 48), None),  # larger
        (64, 48, (64, 48), None),  # the same
        (97, 8, (24, 3), (0.0, 0.25, 97.0, 7.75)),
    ],
)
def test_noise_becomes_what_pillow_makes_of_it(
    width: int, height: int, size: tuple[int, int], box: tuple[float, float, float, float] | None, interpolation: str
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    on_device = DevicePixels(pixels.shape, pixels.ctypes.data, pixels)
    resized, last = Resizer("cpu").resize(on_device, size, box, interpolation, is_vertical_first((width, height), size))
    expected = np.asarray(Image.fromarray(pixels).resize(size, FILTERS[interpolation], box=box))
    assert np.abs(resized.astype(int) - expected).max() <= 1
    assert np.abs(resized.astype(int) - expected).mean() < 0.1
    assert (last == pixels[-1, -1]).all()
