"""fp32 -> half floats inside, fp32 at both ends, so that clients see no difference."""

import warnings
from collections.abc import Callable

import onnx
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

from export.onnx_file import named_copy
from export.simplify import simplify

# A sum of squares may exceed 65504, half precision's largest number, although no element does.
_KEPT = [*DEFAULT_OP_BLOCK_LIST, "ReduceL2", "ReduceSumSquare", "LpNormalization"]
_LAYERS = {"Conv", "Gemm", "MatMul", "Einsum"}
_FIRST = 2  # convolutions that stay in fp32, but at most a tenth of all layers


def to_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns a copy that computes in half precision, with the same inputs and outputs.

    The last layer before the scores, and what follows it, stay in fp32: half precision has no number between 0.9995
    and 1, so the best scores would be equal. So do the first two convolutions: there the rounding of weights that
    nearly cancel out, as those that look for edges, costs as much accuracy as in all later layers.
    """
    copy = named_copy(model)
    kept = _stem(copy) + _head(copy)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it names every weight that is too small for half precision
        half = convert_float_to_float16(copy, keep_io_types=True, op_block_list=_KEPT, node_block_list=kept)
    _drop_repeated_casts(half)
    OnnxModel(half).topological_sort()  # it appends the casts around what is kept
    del half.graph.value_info[:]  # it leaves wrong types there
    half = onnx.shape_inference.infer_shapes(half)
    _drop_rounding_between_kept(half)
    return simplify(half)


def _drop_repeated_casts(half: onnx.ModelProto) -> None:
    """The conversion adds the same Cast once for each kept node that reads a tensor."""
    unique: dict[tuple[str, ...], onnx.NodeProto] = {}
    for node in half.graph.node:
        unique.setdefault(tuple(node.output), onnx.NodeProto.FromString(node.SerializeToString()))
    del half.graph.node[:]
    half.graph.node.extend(unique.values())


def _drop_rounding_between_kept(half: onnx.ModelProto) -> None:
    """The conversion rounds between two kept nodes, by a Cast to half precision and one back."""
    casts = {node.output[0]: node for node in half.graph.node if node.op_type == "Cast"}
    single = onnx.TensorProto.FLOAT
    singles = {value.name for value in half.graph.value_info if value.type.tensor_type.elem_type == single}
    for node in casts.values():
        before = casts.get(node.input[0])
        if before is not None and before.input[0] in singles and node.attribute[0].i == single:
            node.input[0] = before.input[0]
            node.op_type = "Identity"
            del node.attribute[:]


def _stem(model: onnx.ModelProto) -> list[str]:
    """The names of the first convolutions and of the nodes before them."""
    layers = [node for node in model.graph.node if node.op_type in _LAYERS]
    convolutions = [node for node in layers if node.op_type == "Conv"][: min(_FIRST, len(layers) // 10)]
    return _upstream(model, [node.output[0] for node in convolutions], lambda node: False)


def _head(model: onnx.ModelProto) -> list[str]:
    """The names of the nodes from the last layer to the scores; a layer has a matrix of weights or multiplies two."""
    matrices = {weights.name for weights in model.graph.initializer if len(weights.dims) > 1}
    return _upstream(model, ["scores"], lambda node: bool(matrices & {*node.input}) or node.op_type in _LAYERS)


def _upstream(model: onnx.ModelProto, tensors: list[str], is_end: Callable[[onnx.NodeProto], bool]) -> list[str]:
    """The names of the nodes on which `tensors` depend, not further than those that end the search."""
    producers = {name: node for node in model.graph.node for name in node.output}
    names, waiting = [], [*tensors]
    while waiting:
        node = producers.pop(waiting.pop(), None)
        if node is not None:
            names.append(node.name)
            if not is_end(node):
                waiting += node.input
    return names
