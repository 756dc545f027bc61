"""What every peer runs: the same ONNX file, on pixels from the same decoder, with one thread."""

import json
import os
from pathlib import Path

import numpy as np

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # it takes effect only before the import
import onnxruntime as ort

from labelwise.image import load_pixels

PORT = int(os.environ.get("BENCH_PORT", "0"))
MOST_IN_BATCH = 8


class TaggerModel:
    """Decodes photos and scores them. Tagger and weights are named by environment variables of the benchmark."""

    def __init__(self) -> None:
        contract = json.loads(Path(os.environ["BENCH_CONTRACT"]).read_text())
        image = contract["image"]
        self._decoding = {name: image[name] for name in ("height", "width", "resize", "interpolation")}
        self._input, self._labels = contract["input"]["name"], contract["labels"]
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = ort.InferenceSession(os.environ["BENCH_WEIGHTS"], options, providers=["CPUExecutionProvider"])

    def decode(self, photo):
        """Returns uint8 [height, width, 3]."""
        return load_pixels(photo, **self._decoding)

    def scores(self, pixels):
        """Returns the scores, float32 [n, labels], of a list of n photos' pixels."""
        return self._session.run(["scores"], {self._input: np.stack(pixels)})[0]

    def answer(self, scores):
        """Returns what a server answers for the scores [labels] of one photo."""
        return {"scores": dict(zip(self._labels, scores.tolist(), strict=True))}

    def tag(self, photo):
        return self.answer(self.scores([self.decode(photo)])[0])
