"""How far the numbers of an exported graph may be from its source's, by precision and output."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from export.half_storage import is_stored

Precision = Literal["fp32", "fp16", "int8"]


@dataclass(frozen=True)
class Tolerance:
    """The limit of a distance. `absolute`: the largest absolute difference of a value, relative to the largest value if
    that is above 1; `cosine`: the largest 1 - cosine of a vector along the last axis."""

    measure: Literal["absolute", "cosine"]
    limit: float

    def distances(self, ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> NDArray[np.float64]:
        """Two [b, ...] -> one distance per picture [b]; NaN if either side has a NaN."""
        a, b = (values.astype(np.float64) for values in (ours, theirs))
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            if self.measure == "absolute":
                return np.abs(a - b).reshape(len(a), -1).max(axis=1) / max(1, np.abs(a).max())
            lengths = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
            return (1 - (a * b).sum(axis=-1) / lengths).reshape(len(a), -1).max(axis=1)


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
    # These only reveal a broken calibration; a labelled set shows whether a calibration is good enough.
    "int8": {
        "scores": Tolerance("absolute", 0.25),
        "embeddings": Tolerance("cosine", 0.1),
        "attention": Tolerance("absolute", 0.25),
    },
}


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
    return max(one, other, key=list(TOLERANCES).index)
