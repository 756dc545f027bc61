"""The graphs serving/decoding/resize_*.onnx; `python -m tests.serving.decoding.resize_graph` writes them.

The serving install has no package that writes graphs.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from serving.decoding.resizing import GRAPHS


def _pass(source: str, weights: str, target: str) -> list[onnx.NodeProto]:
    """[a, b, 3] -> [n, b, 3] for weights [n, a], rounded to bytes as Pillow does after each pass."""
    return [
        helper.make_node("Reshape", [source, "flat"], [f"{source}_flat"]),  # a (b 3)
        helper.make_node("MatMul", [weights, f"{source}_flat"], [f"{weights}_sum"]),
        helper.make_node("Add", [f"{weights}_sum", "half"], [f"{weights}_raised"]),
        helper.make_node("Floor", [f"{weights}_raised"], [f"{weights}_whole"]),
        helper.make_node("Clip", [f"{weights}_whole", "least", "most"], [f"{weights}_bytes"]),
        helper.make_node("Reshape", [f"{weights}_bytes", "coloured"], [target]),
    ]


def _turn(source: str, target: str) -> onnx.NodeProto:
    return helper.make_node("Transpose", [source], [target], perm=[1, 0, 2])


def build(vertical_first: bool) -> onnx.ModelProto:
    """pixels [H, W, 3], across [w, W] and down [h, H] -> resized [h, w, 3], and the last pixel."""
    if vertical_first:
        passes = [*_pass("rows", "down", "short"), _turn("short", "columns")]
        passes += [*_pass("columns", "across", "turned"), _turn("turned", "small")]
    else:
        passes = [_turn("rows", "columns"), *_pass("columns", "across", "turned")]
        passes += [_turn("turned", "narrow"), *_pass("narrow", "down", "small")]
    nodes = [
        helper.make_node("Cast", ["pixels"], ["rows"], to=TensorProto.FLOAT),
        *passes,
        helper.make_node("Cast", ["small"], ["resized"], to=TensorProto.UINT8),
        helper.make_node("Slice", ["pixels", "minus_one", "end"], ["last"]),
    ]
    constants = {
        "flat": np.array([0, -1]),
        "coloured": np.array([0, -1, 3]),
        "half": np.float32(0.5),
        "least": np.float32(0),
        "most": np.float32(255),
        "minus_one": np.array([-1, -1]),
        "end": np.array([2**31 - 1, 2**31 - 1]),
    }
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "resize",
        [
            value("pixels", TensorProto.UINT8, ["H", "W", 3]),
            value("across", TensorProto.FLOAT, ["w", "W"]),
            value("down", TensorProto.FLOAT, ["h", "H"]),
        ],
        [value("resized", TensorProto.UINT8, ["h", "w", 3]), value("last", TensorProto.UINT8, [1, 1, 3])],
        [numpy_helper.from_array(np.asarray(constant), name) for name, constant in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


if __name__ == "__main__":
    for vertical_first, file in GRAPHS.items():
        file.write_bytes(build(vertical_first).SerializeToString())
