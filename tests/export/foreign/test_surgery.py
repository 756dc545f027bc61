"""Every form in which a graph may take pictures and give scores is fitted to the contract."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.transformers.float16 import convert_float_to_float16

from export.exporting import Target, export_tagger
from export.foreign import open_foreign
from export.half_arithmetic import open_as_computed
from export.onnx_file import GraphError
from export.simplify import superfluous_nodes
from labelwise.errors import SpecError
from labelwise.spec import TaggerSpec

FLOAT, HALF, UINT8 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8
IMAGE = {"height": 8, "width": 12, "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}


def write(
    folder: Path,
    shape: list[int | str],
    kind: int = FLOAT,
    end: str | None = None,
    reshape: list[int] | None = None,
    output: str = "logits",
) -> tuple[Path, Path]:
    """A linear classifier of two labels over the mean of each channel, and a spec for it."""
    channels_first = shape[1] == 3
    dtype = np.float16 if kind == HALF else np.float32
    weights = {
        "weight": np.array([[3, -2], [-1, 4], [2, 1]], dtype) / (100 if kind == UINT8 else 1),
        "axes": np.array([2, 3] if channels_first else [1, 2], np.int64),
        "shape": np.array(reshape or [-1, 3], np.int64),
    }
    steps = [("Cast", ["image"], "floats", {"to": FLOAT})] if kind == UINT8 else []
    start = "floats" if steps else "image"  # a name that the contract uses as well
    steps += [
        ("ReduceMean", [start, "axes"], "pooled", {"keepdims": 0}),
        ("Reshape", ["pooled", "shape"], "flat", {}),
        ("Identity", ["flat"], "same", {}),
        ("MatMul", ["same", "weight"], "scores" if end else output, {}),
    ]
    steps += [(end, ["scores"], output, {})] if end else []
    nodes = [helper.make_node(operator, inputs, [out], **extra) for operator, inputs, out, extra in steps]
    graph = helper.make_graph(
        nodes,
        "mean",
        [helper.make_tensor_value_info("image", kind, shape)],
        [helper.make_tensor_value_info(output, HALF if kind == HALF else FLOAT, [shape[0], 2])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    onnx.save_model(model, folder / "model.onnx")
    (folder / "spec.json").write_text(json.dumps({"labels": ["a", "b"], "image": IMAGE, "max_batch": 4}), "utf-8")
    return folder / "model.onnx", folder / "spec.json"


def expected(pixels: np.ndarray, kind: int) -> np.ndarray:
    values = pixels.astype(np.float64)
    if kind == UINT8:
        weight = np.array([[3, -2], [-1, 4], [2, 1]]) / 100
    else:
        values, weight = (values / 255 - IMAGE["mean"]) / IMAGE["std"], np.array([[3, -2], [-1, 4], [2, 1]])
    return 1 / (1 + np.exp(-values.mean(axis=(1, 2)) @ weight))


@pytest.mark.parametrize(
    ("form", "expected_nodes"),
    [
        ({"shape": ["n", 3, 8, 12]}, ["Cast", "Transpose", "Sub", "Div"]),
        ({"shape": ["n", 3, "h", "w"]}, ["Cast", "Transpose", "Sub", "Div"]),
        ({"shape": ["n", 8, 12, 3]}, ["Cast", "Sub", "Div"]),
        ({"shape": ["n", 3, 8, 12], "kind": UINT8}, ["Transpose", "Cast"]),
        ({"shape": ["n", 8, 12, 3], "kind": UINT8}, ["Cast"]),
        ({"shape": ["n", 3, 8, 12], "kind": HALF}, ["Cast", "Transpose", "Sub", "Div", "Cast"]),
        ({"shape": ["n", 3, 8, 12], "end": "Sigmoid"}, ["Cast", "Transpose", "Sub", "Div"]),
        ({"shape": ["n", 3, 8, 12], "end": "Sigmoid", "output": "image_scores"}, ["Cast", "Transpose", "Sub", "Div"]),
        ({"shape": [1, 3, 8, 12]}, ["Cast", "Transpose", "Sub", "Div"]),
        ({"shape": [1, 3, 8, 12], "reshape": [1, 3]}, ["Cast", "Transpose", "Sub", "Div"]),
        ({"shape": [2, 3, 8, 12], "reshape": [2, 3]}, ["Cast", "Transpose", "Sub", "Div"]),
    ],
    ids=str,
)
def test_every_form_is_fitted_to_the_contract(form: dict, expected_nodes: list[str], tmp_path: Path):
    file, spec_file = write(tmp_path, **form)
    export_tagger(file, spec_file, Target(tmp_path / "repository", "mean"))
    published = tmp_path / "repository/mean_model/1/model.onnx"
    model = onnx.load(published)
    operators = [node.op_type for node in model.graph.node]
    assert operators[: len(expected_nodes)] == expected_nodes
    assert operators.count("Sigmoid") == 1
    assert superfluous_nodes(model) == []
    assert {opset.domain for opset in model.opset_import} == {""}
    session = ort.InferenceSession(published, providers=["CPUExecutionProvider"])
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 12, 3), np.uint8)
    tolerance = 5e-3 if form.get("kind") == HALF else 1e-5
    np.testing.assert_allclose(
        session.run(["scores"], {"image": pixels})[0], expected(pixels, form.get("kind", FLOAT)), atol=tolerance
    )


def test_an_output_of_text_is_left_out(tmp_path: Path):
    file, spec_file = write(tmp_path, ["n", 3, 8, 12], end="Sigmoid", output="scores_of_all")
    model = onnx.load(file)
    model.graph.node.append(helper.make_node("Cast", ["scores_of_all"], ["names"], to=onnx.TensorProto.STRING))
    model.graph.output.append(helper.make_tensor_value_info("names", onnx.TensorProto.STRING, ["n", 2]))
    onnx.save_model(model, file)
    export_tagger(file, spec_file, Target(tmp_path / "repository", "mean"))
    assert [tensor.name for tensor in TaggerSpec.read(tmp_path / "repository/mean").outputs] == ["scores"]


def test_scores_that_may_or_may_not_be_logits_are_asked_about(tmp_path: Path):
    file, spec_file = write(tmp_path, ["n", 3, 8, 12], end="HardSigmoid")
    model = onnx.load(file)
    model.graph.node[-1].output[0] = "within"
    model.graph.node.append(helper.make_node("Sqrt", ["within"], ["logits"]))  # still within 0..1
    onnx.save_model(model, file)
    with pytest.raises(SpecError, match="comes from Sqrt, not from a sigmoid; say true or false"):
        open_foreign(file, spec_file)
    content = json.loads(spec_file.read_text("utf-8"))
    found = []
    for logits in (True, False):
        spec_file.write_text(json.dumps(content | {"logits": logits}), "utf-8")
        found.append(open_foreign(file, spec_file).reference(np.zeros((1, 8, 12, 3), np.uint8))["scores"])
    np.testing.assert_allclose(found[0], 1 / (1 + np.exp(-found[1])), rtol=1e-6)


@pytest.mark.parametrize("end", ["LogSoftmax", "Tanh"])
def test_outputs_that_are_neither_scores_nor_logits_are_asked_about(end: str, tmp_path: Path):
    with pytest.raises(SpecError, match=f"comes from {end}, not from a sigmoid; say true or false"):
        open_foreign(*write(tmp_path, ["n", 3, 8, 12], end=end))


def test_scores_behind_a_reshape_are_scores(tmp_path: Path):
    file, spec_file = write(tmp_path, ["n", 3, 8, 12], end="Sigmoid")
    model = onnx.load(file)
    model.graph.node[-1].output[0] = "column"
    model.graph.initializer.append(numpy_helper.from_array(np.array([-1, 2]), "two"))
    model.graph.node.append(helper.make_node("Reshape", ["column", "two"], ["logits"]))
    onnx.save_model(model, file)
    scores = open_foreign(file, spec_file).reference(np.zeros((1, 8, 12, 3), np.uint8))["scores"]
    np.testing.assert_allclose(scores, expected(np.zeros((1, 8, 12, 3), np.uint8), FLOAT), atol=1e-5)


@pytest.mark.parametrize("keeps_ends", [False, True])
def test_the_sigmoid_of_a_float16_graph_is_computed_in_fp32(keeps_ends: bool, tmp_path: Path):
    """In half precision both scores would be 1."""
    file, spec_file = write(tmp_path, ["n", 3, 8, 12], end="Sigmoid")
    model = onnx.load(file)
    (weight,) = (values for values in model.graph.initializer if values.name == "weight")
    weight.CopyFrom(numpy_helper.from_array(np.array([[9, 10]] * 3, np.float32), "weight"))
    onnx.save_model(convert_float_to_float16(model, keep_io_types=keeps_ends), file)
    export_tagger(file, spec_file, Target(tmp_path / "repository", "mean"))
    session = open_as_computed(tmp_path / "repository/mean_model/1/model.onnx")
    pixels = np.full((1, 8, 12, 3), [160, 130, 110], np.uint8)  # three means of about 0.3 to 0.6
    (scores,) = session.run(["scores"], {"image": pixels})[0]
    assert 0.9995 < scores[0] < scores[1] < 1


@pytest.mark.parametrize(
    ("shape", "kind", "words"),
    [
        (["n", 3, 8, 12], TensorProto.DOUBLE, "image is double .*but pictures"),
        (["n", 3, 8], FLOAT, r"image is float \['n', 3, 8\], but pictures"),
        (["n", 4, 8, 12], FLOAT, "three channels are needed"),
    ],
)
def test_a_graph_that_takes_no_pictures_is_refused(shape: list[int | str], kind: int, words: str, tmp_path: Path):
    _, spec_file = write(tmp_path, ["n", 3, 8, 12])
    graph = helper.make_graph(
        [helper.make_node("Relu", ["image"], ["scores"])],
        "no pictures",
        [helper.make_tensor_value_info("image", kind, shape)],
        [helper.make_tensor_value_info("scores", kind, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save_model(model, tmp_path / "model.onnx")
    with pytest.raises(GraphError, match=words):
        open_foreign(tmp_path / "model.onnx", spec_file)


def test_a_batch_that_cannot_be_freed_is_refused(tmp_path: Path):
    file, spec_file = write(tmp_path, [1, 3, 8, 12])
    model = onnx.load(file)
    concat = helper.make_node("Concat", ["pooled", "token"], ["joined"], axis=1)  # as a vision transformer's does
    model.graph.node.insert(1, concat)
    model.graph.node.insert(2, helper.make_node("Slice", ["joined", "from", "to", "one"], ["sliced"]))
    model.graph.node[3].input[0] = "sliced"
    constants = {"token": np.ones((1, 1), np.float32), "from": [0], "to": [3], "one": [1]}
    for name, value in constants.items():
        array = value if isinstance(value, np.ndarray) else np.array(value, np.int64)
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    onnx.save_model(model, file)
    with pytest.raises(GraphError, match="batch is fixed at 1 in more than its input: export it again"):
        export_tagger(file, spec_file, Target(tmp_path / "repository", "mean"))
    assert not (tmp_path / "repository").exists()


def test_weights_keep_their_shape_when_the_batch_is_freed(tmp_path: Path):
    """A layer's scale reshaped to [1, 3] only looks like a batch of one."""
    file, spec_file = write(tmp_path, [1, 3, 8, 12], reshape=[1, 3])
    model = onnx.load(file)
    model.graph.node.insert(1, helper.make_node("Reshape", ["gamma", "shape"], ["scale"]))
    model.graph.node.insert(2, helper.make_node("Mul", ["pooled", "scale"], ["scaled"]))
    model.graph.node[3].input[0] = "scaled"
    model.graph.initializer.append(numpy_helper.from_array(np.float32([1, 1, 1]), "gamma"))
    onnx.save_model(model, file)
    export_tagger(file, spec_file, Target(tmp_path / "repository", "mean"))
    session = ort.InferenceSession(tmp_path / "repository/mean_model/1/model.onnx", providers=["CPUExecutionProvider"])
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 12, 3), np.uint8)
    np.testing.assert_allclose(session.run(["scores"], {"image": pixels})[0], expected(pixels, FLOAT), atol=1e-5)


def test_two_possible_scores_are_asked_about(tmp_path: Path):
    file, spec_file = write(tmp_path, ["n", 3, 8, 12])
    model = onnx.load(file)
    model.graph.node.append(helper.make_node("Neg", ["logits"], ["other"]))
    model.graph.output.append(helper.make_tensor_value_info("other", FLOAT, ["n", 2]))
    onnx.save_model(model, file)
    with pytest.raises(SpecError, match="logits and other could be the scores"):
        open_foreign(file, spec_file)
    content = json.loads(spec_file.read_text("utf-8"))
    spec_file.write_text(json.dumps(content | {"scores": "other"}), "utf-8")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 12, 3), np.uint8)
    found = open_foreign(file, spec_file).reference(pixels)["scores"]
    np.testing.assert_allclose(found, 1 - expected(pixels, FLOAT), atol=1e-5)
