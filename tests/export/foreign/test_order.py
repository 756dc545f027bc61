"""Nodes stand behind those that they read from."""

import onnx
import pytest
from onnx import TensorProto, helper

from export.foreign.order import sort_nodes


def graph(*nodes: onnx.NodeProto) -> onnx.GraphProto:
    value = helper.make_tensor_value_info
    condition, one = value("condition", TensorProto.BOOL, []), value("x", TensorProto.FLOAT, ["n"])
    return helper.make_graph(list(nodes), "g", [condition, one], [value("y", TensorProto.FLOAT, ["n"])])


def order(graph: onnx.GraphProto) -> list[str]:
    sort_nodes(graph)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return [node.output[0] for node in graph.node]


def relu(name: str, result: str) -> onnx.NodeProto:
    return helper.make_node("Relu", [name], [result])


def test_nodes_change_places_only_where_they_must():
    assert order(graph(relu("b", "y"), relu("x", "other"), relu("x", "a"), relu("a", "b"))) == ["other", "a", "b", "y"]
    assert order(graph(relu("x", "b"), relu("x", "a"), relu("a", "y"))) == ["b", "a", "y"]


def test_what_graphs_inside_a_node_take_from_outside_counts():
    value = helper.make_tensor_value_info("r", TensorProto.FLOAT, ["n"])
    branch = helper.make_graph([relu("a", "r")], "branch", [], [value])
    either = helper.make_node("If", ["condition"], ["y"], then_branch=branch, else_branch=branch)
    assert order(graph(either, relu("x", "a"))) == ["a", "y"]


def test_a_circle_is_left_to_the_check():
    with pytest.raises(onnx.checker.ValidationError, match="topologically sorted"):
        order(graph(relu("y", "a"), relu("a", "y")))
