"""A graph that disagrees with its contract, or cannot be loaded, is reported in one line."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from export.check import check_repository
from export.check.findings import Finding

Change = Callable[[Callable[[onnx.ModelProto], None]], None]
Failures = Callable[[], list[Finding]]


def unknown_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 99


def unknown_ir(model: onnx.ModelProto) -> None:
    model.ir_version = 99


def other_labels(model: onnx.ModelProto) -> None:
    entry = next(entry for entry in model.metadata_props if entry.key == "labelwise.labels")
    entry.value = '["cat", "dog", "sea"]'


def fixed_batch(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def other_output(model: onnx.ModelProto) -> None:
    del model.graph.output[2]


def no_such_operator(model: onnx.ModelProto) -> None:
    model.graph.node[0].op_type = "Conjure"


@pytest.mark.parametrize(
    ("change", "check", "words"),
    [
        (unknown_opset, "opset", "it needs opset 99, which ONNX Runtime"),
        (unknown_ir, "opset", "its IR version is 99"),
        (other_labels, "metadata", "labels is ['cat', 'dog', 'sea'], the contract says"),
        (fixed_batch, "signature", "the batch dimension of image is fixed at 1"),
        (other_output, "signature", "its contract says 'attention', but the graph has scores, embeddings"),
        (no_such_operator, "ONNX", "Conjure"),
    ],
)
def test_a_wrong_graph_is_reported(
    change: Callable[[onnx.ModelProto], None], check: str, words: str, change_graph: Change, failures: Failures
):
    change_graph(change)
    found = {finding.check: finding.found for finding in failures()}
    assert words in found[check]
    assert all("\n" not in line for line in found.values())


def test_a_file_that_is_not_onnx_is_reported(repository: Path, failures: Failures):
    (repository / "pets_model/1/model.onnx").write_bytes(b"no graph")
    assert {finding.check: finding.found for finding in failures()}["ONNX"].endswith("model.onnx is not an ONNX file.")


def test_weights_in_another_file_are_reported(repository: Path, change_graph: Change, failures: Failures):
    def move_out(model: onnx.ModelProto) -> None:
        onnx.external_data_helper.convert_model_to_external_data(model, location="weights.bin")

    change_graph(move_out)
    assert [finding.check for finding in failures()] == ["external data"]
    (repository / "pets_model/1/weights.bin").unlink()
    assert {finding.check for finding in failures()} == {"external data", "ONNX", "opset"}


def test_useless_nodes_and_missing_metadata_are_notes(repository: Path, change_graph: Change):
    def detour(model: onnx.ModelProto) -> None:
        del model.metadata_props[:]
        last = next(node for node in model.graph.node if "scores" in node.output)
        last.output[0] = "nearly"
        model.graph.node.append(helper.make_node("Identity", ["nearly"], ["scores"]))

    change_graph(detour)
    notes = {one.check: one.found for one in check_repository(repository) if one.status != "ok"}
    assert notes.keys() == {"metadata", "nodes"}
    assert "These copy or cancel: 1 Identity" in notes["nodes"]


def test_answers_are_compared_with_the_contract(repository: Path, change_graph: Change, failures: Failures):
    def wrong_everywhere(model: onnx.ModelProto) -> None:
        for name in ("scores", "embeddings", "attention"):
            node = next(node for node in model.graph.node if name in node.output)
            node.output[list(node.output).index(name)] = f"true_{name}"
            model.graph.node.append(helper.make_node("Mul", [f"true_{name}", "twice"], [name]))
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(2.5), "twice"))

    change_graph(wrong_everywhere)
    found = {finding.check: finding.found for finding in failures()}
    assert found.keys() == {"scores", "embeddings", "attention"}
    assert "not within 0..1, on test picture" in found["scores"]
    assert "lengths 2.5000 to 2.5000, not of length 1" in found["embeddings"]
    assert "sums 2.5000 to 2.5000" in found["attention"]


def test_answers_that_depend_on_the_batch_are_reported(repository: Path, change_graph: Change, failures: Failures):
    def average(model: onnx.ModelProto) -> None:
        node = next(node for node in model.graph.node if "scores" in node.output)
        node.output[0] = "own"
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([0], np.int64), "axis"))
        model.graph.node.append(helper.make_node("ReduceMean", ["own", "axis"], ["mean"], keepdims=1))
        model.graph.node.append(helper.make_node("Shape", ["own"], ["shape"]))
        model.graph.node.append(helper.make_node("Expand", ["mean", "shape"], ["scores"]))

    change_graph(average)
    (found,) = failures()
    assert found.check == "alone as in a batch"
    assert "scores at batch 2" in found.found
