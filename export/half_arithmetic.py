"""Emulates half precision on a CPU: what a graph of half floats answers on a GPU.

ONNX Runtime's CPU provider computes such a graph in fp32 and rounds little more than the weights, so its answers say
little about a GPU's. Here a Cast to half precision and back rounds every result. Inside an operator sums stay fp32, as
on GPUs.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from export.onnx_file import load_model, open_session
from export.tolerances import precision_of

_HALF, _SINGLE = TensorProto.FLOAT16, TensorProto.FLOAT


def open_as_computed(file: Path, threads: int = 0) -> ort.InferenceSession:
    """Opens a session on the CPU that rounds as a GPU does if the graph computes in half precision. GraphError."""
    model = load_model(file)
    if precision_of(model) != "fp16":
        return open_session(file, threads)
    return open_session(in_single(model, rounded=True).SerializeToString(), threads)


def in_single(model: onnx.ModelProto, rounded: bool) -> onnx.ModelProto:
    """Returns a copy that computes in fp32 with the same weights, also at inputs and outputs.

    With `rounded`, every result that was a half float is rounded to one.
    """
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    del copy.graph.value_info[:]  # a conversion may have left wrong types there
    copy = onnx.shape_inference.infer_shapes(copy)
    for graph in _graphs(copy.graph):
        values = (*graph.value_info, *graph.output)
        halves = {value.name for value in values if value.type.tensor_type.elem_type == _HALF}
        for weights in graph.initializer:
            _widen(weights)
        nodes = [part for node in graph.node for part in _widened(node, halves, rounded)]
        del graph.node[:]
        graph.node.extend(nodes)
        for value in (*graph.input, *graph.output):
            if value.type.tensor_type.elem_type == _HALF:
                value.type.tensor_type.elem_type = _SINGLE
        del graph.value_info[:]  # they name the old types
    return copy


def _widened(node: onnx.NodeProto, halves: set[str], rounded: bool) -> list[onnx.NodeProto]:
    """The node as it computes in fp32, followed by the Casts that round its results."""
    copy = onnx.NodeProto.FromString(node.SerializeToString())
    for attribute in copy.attribute:
        if attribute.type == onnx.AttributeProto.TENSOR:
            _widen(attribute.t)
        elif attribute.name in ("to", "dtype") and attribute.i == _HALF:
            attribute.i = _SINGLE
    if not rounded or node.op_type == "Constant":
        return [copy]
    casts = []
    for place, name in enumerate(node.output):
        if name in halves:
            full, half = f"{name}/full", f"{name}/half"
            copy.output[place] = full
            casts.append(helper.make_node("Cast", [full], [half], to=_HALF))
            casts.append(helper.make_node("Cast", [half], [name], to=_SINGLE))
    return [copy, *casts]


def _widen(tensor: TensorProto) -> None:
    if tensor.data_type == _HALF:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph and those inside its Ifs and Loops."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [attribute.g] if attribute.type == onnx.AttributeProto.GRAPH else attribute.graphs:
                yield from _graphs(inner)
