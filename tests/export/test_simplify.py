"""Superfluous nodes go, the others stay, and the results are the same."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.simplify import simplify, superfluous_nodes


def graph_of(*nodes: onnx.NodeProto, outputs: tuple[str, ...] = ("y",), values: dict[str, tuple] = {}):  # noqa: B006
    """x float [b, 2, 3] -> outputs; the weight `w` is [3]."""
    shape = ["b", 2, 3]
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [
            numpy_helper.from_array(np.float32([1, 2, 3]), "w"),
            numpy_helper.from_array(np.array([1, 2, 3], np.int64), "full"),
        ],
        value_info=[helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in values.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def node(operator: str, inputs: str, outputs: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(operator, inputs.split(), outputs.split(), **attributes)


def run(model: onnx.ModelProto) -> list[np.ndarray]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.random.default_rng(0).normal(size=(4, 2, 3)).astype(np.float32)})


TRANSPOSES = [node("Transpose", "x", "t", perm=[1, 2, 0]), node("Transpose", "t", "u", perm=[1, 0, 2])]
CASES = {
    "an Identity in the middle": ([node("Identity", "x", "i"), node("Add", "i w", "y")], ["Add"]),
    "an Identity at the end": ([node("Add", "x w", "i"), node("Identity", "i", "y")], ["Add"]),
    "an Identity of an output": (
        [node("Add", "x w", "y"), node("Identity", "y", "i"), node("Mul", "i w", "z")],
        ["Add", "Mul"],
    ),
    "a Cast to the same type": ([node("Cast", "x", "c", to=TensorProto.FLOAT), node("Add", "c w", "y")], ["Add"]),
    "a Cast that counts": (
        [
            node("Cast", "x", "c", to=TensorProto.INT32),
            node("Cast", "c", "d", to=TensorProto.FLOAT),
            node("Add", "d w", "y"),
        ],
        ["Cast", "Cast", "Add"],
    ),
    "Transposes that make one": ([*TRANSPOSES, node("Relu", "u", "y")], ["Transpose", "Relu"]),
    "Transposes that cancel": (
        [*TRANSPOSES, node("Transpose", "u", "v", perm=[2, 1, 0]), node("Add", "v w", "y")],
        ["Add"],
    ),
    "a Transpose that is read twice": (
        [*TRANSPOSES, node("Relu", "t", "z"), node("Relu", "u", "y")],
        ["Transpose", "Transpose", "Relu", "Relu"],
    ),
    "an Expand that broadcasting does": (
        [node("ReduceSum", "x", "s"), node("Shape", "x", "d"), node("Expand", "s d", "e"), node("Div", "x e", "y")],
        ["ReduceSum", "Div"],
    ),
    "an Expand that makes the shape": ([node("Expand", "w full", "e"), node("Add", "e w", "y")], ["Expand", "Add"]),
    "a node before the one that it reads from": ([node("Add", "r w", "y"), node("Relu", "x", "r")], ["Relu", "Add"]),
    "what feeds nothing": ([node("Exp", "x", "lost"), node("Add", "x w", "y")], ["Add"]),
    "an Identity read in a branch": (
        [
            node("Identity", "x", "i"),
            node("ReduceMax", "x", "m", keepdims=0),
            node("Cast", "m", "c", to=TensorProto.BOOL),
            node(
                "If",
                "c",
                "y",
                then_branch=helper.make_graph(
                    [node("Relu", "i", "r")], "then", [], [helper.make_tensor_value_info("r", TensorProto.FLOAT, None)]
                ),
                else_branch=helper.make_graph(
                    [node("Exp", "i", "e")], "else", [], [helper.make_tensor_value_info("e", TensorProto.FLOAT, None)]
                ),
            ),
        ],
        ["ReduceMax", "Cast", "If"],
    ),
}


KNOWN_SHAPES = {"an Expand that broadcasting does": "e", "a node before the one that it reads from": "r"}


@pytest.mark.parametrize("case", CASES)
def test_superfluous_nodes_go_and_the_results_stay(case: str):
    nodes, left = CASES[case]
    outputs = ("y", "z") if any("z" in part.output for part in nodes) else ("y",)
    values = {KNOWN_SHAPES[case]: ("b", 2, 3)} if case in KNOWN_SHAPES else {}
    model = onnx.shape_inference.infer_shapes(graph_of(*nodes, outputs=outputs, values=values))
    before = run(model)
    model = simplify(model)
    assert [part.op_type for part in model.graph.node] == left
    onnx.checker.check_model(model, full_check=True)
    for old, new in zip(before, run(model), strict=True):
        np.testing.assert_array_equal(old, new)


def test_unused_domains_go_and_ai_onnx_becomes_the_default():
    model = graph_of(node("Add", "x w", "y"))
    model.opset_import[0].domain = "ai.onnx"
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    assert [(opset.domain, opset.version) for opset in simplify(model).opset_import] == [("", 18)]


def test_superfluous_nodes_are_counted_by_operator():
    model = graph_of(
        node("Identity", "x", "i"), *TRANSPOSES, node("Transpose", "u", "v", perm=[2, 1, 0]), node("Add", "v i", "y")
    )
    assert superfluous_nodes(model) == ["1 Identity", "3 Transpose"]
    model = simplify(model)
    assert superfluous_nodes(model) == []
