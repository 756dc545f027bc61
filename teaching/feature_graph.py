"""Asks a published graph for the features that taught labels are fitted to."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from export.onnx_file import Pixels, load_structure, open_session
from labelwise.cores import usable_cores
from labelwise.spec import TaggerSpec
from teaching.taught_graph import add_features

_BATCH = 8

See = Callable[[Pixels], Sequence[NDArray[np.float32]]]


def open_features(file: Path, spec: TaggerSpec) -> See:
    """Returns a function: pixels [b, h, w, 3] -> features [b, d] and scores [b, l]. Raises LabelwiseError."""
    model = load_structure(file)
    features = add_features(model)
    model.graph.output.append(onnx.ValueInfoProto(name=features))
    session = open_session(model.SerializeToString(), usable_cores())
    size = min(_BATCH, spec.max_batch)

    def see(pixels: Pixels) -> Sequence[NDArray[np.float32]]:
        batches = [pixels[start : start + size] for start in range(0, len(pixels), size)]
        found = [session.run([features, "scores"], {spec.input.name: batch}) for batch in batches]
        return [np.concatenate(parts).astype(np.float32) for parts in zip(*found, strict=True)]

    return see
