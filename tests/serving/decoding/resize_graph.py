"""The graph serving/decoding/resize.onnx; `python -m tests.serving.decoding.resize_graph` writes it.

The serving install has no package that writes graphs.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from serving.decoding.resizing import GRAPH


def _rounded(name: str) -> list[onnx.NodeProto]:
    """Rounds to bytes after each direction, as Pillow does."""
    return [
        helper.make_node("Add", [name, "half"], [f"{name}_raised"]),
        helper.make_node("Floor", [f"{name}_raised"], [f"{name}_whole"]),
        helper.make_node("Clip", [f"{name}_whole", "least", "most"], [f"{name}_bytes"]),
    ]


def build() -> onnx.ModelProto:
    """pixels [H, W, 3], across [w, W] and down [h, H] -> resized [h, w, 3], and the last pixel."""
    node = helper.make_node
    nodes = [
        node("Transpose", ["pixels"], ["columns"], perm=[1, 0, 2]),
        node("Cast", ["columns"], ["values"], to=TensorProto.FLOAT),
        node("Reshape", ["values", "flat"], ["flat_columns"]),  # W (H 3)
        node("MatMul", ["across", "flat_columns"], ["narrow"]),  # w (H 3)
        *_rounded("narrow"),
        node("Reshape", ["narrow_bytes", "coloured"], ["narrow_columns"]),
        node("Transpose", ["narrow_columns"], ["rows"], perm=[1, 0, 2]),
        node("Reshape", ["rows", "flat"], ["flat_rows"]),  # H (w 3)
        node("MatMul", ["down", "flat_rows"], ["small"]),  # h (w 3)
        *_rounded("small"),
        node("Reshape", ["small_bytes", "coloured"], ["small_rows"]),
        node("Cast", ["small_rows"], ["resized"], to=TensorProto.UINT8),
        node("Slice", ["pixels", "minus_one", "end"], ["last"]),
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
    GRAPH.write_bytes(build().SerializeToString())
