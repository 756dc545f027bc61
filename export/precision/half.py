"""fp32 -> fp16 inside, fp32 at both ends, so that no client sees which one it talks to."""

import warnings

import onnx
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

# Sums of squares: a vector's may be beyond 65504, half precision's largest number, though no element is.
_KEPT = [*DEFAULT_OP_BLOCK_LIST, "ReduceL2", "ReduceSumSquare", "LpNormalization"]


def to_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy that computes in half precision, with the same inputs and outputs."""
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it names each weight too small for half precision, of which models are full
        half = convert_float_to_float16(copy, keep_io_types=True, op_block_list=_KEPT)
    OnnxModel(half).topological_sort()  # it puts the casts around what is kept at the end
    return half
