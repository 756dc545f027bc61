"""How far the numbers of an exported graph may be from its source's, by precision and output."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from export.half_storage import is_stored
from labelwise.spec import Precision


@dataclass(frozen=True)
class Tolerance:
    """The limit of a distance. `absolute`: the largest absolute difference of a value, relative to the largest value if
    that is above 1; `cosine`: the largest 1 - cosine of a vector along the last axis. With `mean_of_labels` the largest
    difference of each label is averaged over a photo's labels.
    """

    measure: Literal["absolute", "cosine"]
    limit: float
    mean_of_labels: bool = False

    def distances(self, ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> NDArray[np.float64]:
        """Two [b, ...] -> one distance per picture [b]; NaN if either side has a NaN."""
        a, b = (values.astype(np.float64) for values in (ours, theirs))
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            if self.measure == "absolute":
                distances = np.abs(a - b) / max(1, np.abs(a).max())
            else:
                lengths = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
                distances = 1 - (a * b).sum(axis=-1) / lengths
            labels = distances.reshape(*distances.shape[:2], -1).max(axis=2)  # b l … -> b l
            return labels.mean(axis=1) if self.mean_of_labels else labels.max(axis=1)


_ABSOLUTE_1E4 = Tolerance("absolute", 1e-4)  # more than fp32 arithmetic in another order explains

# Outputs that are not named here have the tolerance of scores.
TOLERANCES: dict[Precision, dict[str, Tolerance]] = {
    "fp32": {"scores": _ABSOLUTE_1E4, "embeddings": _ABSOLUTE_1E4, "attention": _ABSOLUTE_1E4},
    # 11 bits of mantissa, through some fifty layers.
    "fp16": {
        "scores": Tolerance("absolute", 1e-2),
        "embeddings": Tolerance("cosine", 1e-3),
        "attention": Tolerance("absolute", 1e-2),
    },
    # These only reveal a broken calibration; a labelled set shows whether a calibration is good enough. The embedding
    # and attention of an absent label follow faint evidence, which 8 bits change: of hundreds of labels, some always.
    "int8": {
        "scores": Tolerance("absolute", 0.25),
        "embeddings": Tolerance("cosine", 0.1, mean_of_labels=True),
        "attention": Tolerance("absolute", 0.25, mean_of_labels=True),
    },
}

EXACTEST_FIRST = tuple(TOLERANCES)


def precision_of(model: onnx.ModelProto) -> Precision:
    """What a graph computes in: int8 if a node quantizes, fp16 if a constant is a half float."""
    if any(node.op_type in ("QuantizeLinear", "DequantizeLinear", "QLinearConv") for node in model.graph.node):
        return "int8"
    constants = [attribute.t for node in model.graph.node for attribute in node.attribute if node.op_type == "Constant"]
    halves = onnx.TensorProto.FLOAT16
    tensors = (*(tensor for tensor in model.graph.initializer if not is_stored(tensor.name)), *constants)
    is_half = any(tensor.data_type == halves for tensor in tensors)
    return "fp16" if is_half else "fp32"


def coarser(one: Precision, other: Precision) -> Precision:
    """Returns the precision with the wider tolerances."""
    return max(one, other, key=EXACTEST_FIRST.index)
