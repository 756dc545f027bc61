"""Counts the multiply-adds of a graph for one photo: those of its convolutions and products of matrices."""

from math import prod

import onnx


def count(model: onnx.ModelProto) -> int:
    """Returns the multiply-adds at batch 1. Changes `model`. Raises ValueError if a shape cannot be inferred."""
    batch = model.graph.input[0].type.tensor_type.shape.dim[0]
    batch.Clear()
    batch.dim_value = 1
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {weights.name: list(weights.dims) for weights in inferred.initializer}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        shapes[value.name] = [size.dim_value for size in value.type.tensor_type.shape.dim]
    return sum(_of_node(node, shapes) for node in inferred.node)


def _of_node(node: onnx.NodeProto, shapes: dict[str, list[int]]) -> int:
    if node.op_type not in ("Conv", "Gemm", "MatMul"):
        return 0
    try:
        first, second, out = shapes[node.input[0]], shapes[node.input[1]], shapes[node.output[0]]
    except KeyError as error:
        raise ValueError(f"the shape of {error} is not known") from error
    if node.op_type == "Conv":
        products = prod(second[1:])  # weights o i/groups kh kw: each output element is a sum of i/groups kh kw
    elif node.op_type == "Gemm" and any(one.name == "transA" and one.i for one in node.attribute):
        products = first[0]
    else:
        products = first[-1]
    if not (found := prod(out) * products):  # an unknown size is 0
        raise ValueError(f"a size at {node.op_type} {node.name} is not known")
    return found
