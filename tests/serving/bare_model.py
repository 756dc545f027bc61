"""What the bundled graph itself answers, without a server: decode, then session.run."""

from pathlib import Path

import numpy as np
import onnxruntime as ort

from labelwise.image import load_pixels
from labelwise.repository import WEIGHTS_FILE
from labelwise.spec import TaggerSpec


def run_bare(repository: Path, photo: bytes, output: str) -> np.ndarray:
    """float32, `output` of `scenes` for one photo, without the batch's dimension."""
    spec = TaggerSpec.read(repository / "scenes")
    image = spec.image
    pixels = load_pixels(photo, image.height, image.width, image.resize, image.interpolation)
    weights = repository / "scenes_model" / str(spec.version) / WEIGHTS_FILE
    session = ort.InferenceSession(weights, providers=["CPUExecutionProvider"])
    values: np.ndarray = session.run([output], {spec.input.name: pixels[np.newaxis]})[0][0]
    return values
