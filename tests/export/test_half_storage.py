"""Weights that are float16 numbers take half the bytes in the file, and no computed bit changes."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.half_storage import halves_of, in_halves, restored
from export.onnx_file import load_model, load_structure, open_session, save_model, write_folded
from export.pictures import drawn_pictures
from export.precision import convert, convert_for_tensorrt
from export.simplify import superfluous_nodes
from export.tolerances import precision_of
from labelwise.spec import TaggerSpec


def large(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    return (tensor for tensor in model.graph.initializer if np.prod(tensor.dims) > 1_000)


def weights_of(model: onnx.ModelProto) -> dict[str, bytes]:
    return {tensor.name: numpy_helper.to_array(tensor).tobytes() for tensor in model.graph.initializer}


def test_every_large_weight_takes_half_the_bytes_and_every_output_is_the_same(
    graph: Path, spec: TaggerSpec, tmp_path: Path
):
    model, whole = load_structure(graph), load_model(graph)
    save_model(whole, tmp_path / "whole.onnx")
    assert {tensor.data_type for tensor in large(whole)} == {TensorProto.FLOAT}
    assert {tensor.data_type for tensor in large(model)} == {TensorProto.FLOAT16}
    saved = sum(tensor.ByteSize() for tensor in large(whole)) / 2
    assert graph.stat().st_size < (tmp_path / "whole.onnx").stat().st_size - 0.8 * saved  # without the factors
    pixels = drawn_pictures(spec.image, 5).pixels
    ours, theirs = (open_session(file).run(None, {"image": pixels}) for file in (graph, tmp_path / "whole.onnx"))
    assert [output.tobytes() for output in ours] == [output.tobytes() for output in theirs]


def test_it_is_a_graph_in_fp32_without_superfluous_nodes(graph: Path):
    model = load_structure(graph)
    onnx.checker.check_model(model, full_check=True)
    assert precision_of(model) == "fp32"
    assert superfluous_nodes(model) == []


def test_8_bits_are_made_from_the_whole_weights(graph: Path, spec: TaggerSpec, tmp_path: Path):
    for name, model in (("stored", load_structure(graph)), ("whole", load_model(graph))):
        onnx.save_model(model, tmp_path / name)
        convert(tmp_path / name, spec, "int8", drawn_pictures(spec.image, 16))
    assert weights_of(load_model(tmp_path / "stored")) == weights_of(load_model(tmp_path / "whole"))


def test_tensorrt_gets_whole_weights(graph: Path, spec: TaggerSpec, tmp_path: Path):
    """In a plan's graph, and from ONNX Runtime, which folds constants before it asks a provider."""
    convert_for_tensorrt(graph, tmp_path / "plan.onnx", spec, "fp32", None)
    write_folded(load_structure(graph), tmp_path / "folded.onnx")
    for name in ("plan.onnx", "folded.onnx"):
        model = load_structure(tmp_path / name)
        assert {tensor.data_type for tensor in large(model)} == {TensorProto.FLOAT}
        assert [node.op_type for node in model.graph.node].count("Cast") == 1  # of the pixels


def product(weights: np.ndarray) -> onnx.ModelProto:
    """y = x · weights."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xy")
    node, initializer = helper.make_node("MatMul", ["x", "w"], ["y"]), numpy_helper.from_array(weights, "w")
    return helper.make_model(
        helper.make_graph([node], "g", [x], [y], [initializer]), opset_imports=[helper.make_opsetid("", 18)]
    )


ROUNDED = np.random.default_rng(0).normal(size=(40, 30)).astype(np.float16).astype(np.float32)
FACTORS = np.random.default_rng(1).normal(size=(40, 1)).astype(np.float32)


@pytest.mark.parametrize(("factor", "nodes"), [(np.float32(1), 2), (FACTORS, 3)], ids=["exact", "per-channel"])
def test_what_is_stored_in_half_comes_back(factor: np.ndarray, nodes: int):
    model = product(ROUNDED * factor)
    half = in_halves(model, {"w": ROUNDED})
    assert len(half.graph.node) == nodes
    np.testing.assert_array_equal(halves_of(half)["w"], ROUNDED)
    assert weights_of(restored(half)) == weights_of(model)
    assert list(restored(half).graph.node) == list(model.graph.node)


@pytest.mark.parametrize("value", [0.1, 70_000], ids=["between", "beyond"])
def test_a_weight_that_float16_does_not_have_keeps_the_tensor_whole(value: float):
    weights = ROUNDED.copy()
    weights[3, 4] = value
    model = in_halves(product(weights), {"w": weights})
    assert weights_of(model) == {"w": weights.tobytes()}
    assert weights_of(in_halves(product(weights), {"w": ROUNDED})) == weights_of(model)  # no factor gives that value
    assert restored(model) is model


def test_a_small_tensor_stays_whole():
    assert weights_of(in_halves(product(ROUNDED[:30]), {})) == {"w": ROUNDED[:30].tobytes()}
