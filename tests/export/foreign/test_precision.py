"""Graphs in old opsets and in half precision: published as they are, and in every precision that is asked for."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.transformers.float16 import convert_float_to_float16

from export.check import check_repository
from export.exporting import Export, Target, export_tagger
from export.onnx_file import GraphError
from export.pictures import Evidence
from export.tolerances import TOLERANCES, Precision, precision_of
from labelwise.repository import Repository

LABELS = ["cat", "dog", "sea", "tree"]


def classifier(file: Path, opset: int, half: bool = False, spatial: bool = True) -> Path:
    """A small convolutional network [n, 3, 32, 48] -> logits [n, 4], as exporters of that opset's time wrote it."""
    random = np.random.default_rng(0)
    number = np.float16 if half else np.float32
    shapes = {"conv": (8, 3, 3, 3), "scale": (8,), "shift": (8,), "mean": (8,), "fc": (4, 8), "bias": (4,)}
    if not spatial:
        shapes |= dict.fromkeys(("scale", "shift", "mean"), (8, 16, 24))
    weights = {name: random.normal(size=shape).astype(number) for name, shape in shapes.items()}
    weights["fc"] *= number(4)
    weights["variance"] = np.ones(shapes["mean"], number)
    norm = {"spatial": 0} if not spatial else {}
    nodes = [
        helper.make_node("Conv", ["input", "conv"], ["c"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c", "scale", "shift", "mean", "variance"], ["b"], **norm),
        helper.make_node("Relu", ["b"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("Gemm", ["f", "fc", "bias"], ["output"], transB=1),
    ]
    kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    inputs = [helper.make_tensor_value_info("input", kind, ["n", 3, 32, 48])]
    ir_version = 3 if opset < 9 else 4
    if ir_version == 3:  # weights stood among the inputs then
        inputs += [helper.make_tensor_value_info(name, kind, values.shape) for name, values in weights.items()]
    outputs = [helper.make_tensor_value_info("output", kind, ["n", 4])]
    initializers = [numpy_helper.from_array(values, name) for name, values in weights.items()]
    graph = helper.make_graph(nodes, "classifier", inputs, outputs, initializers)
    onnx.save_model(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version), file
    )
    return file


def publish(file: Path, folder: Path, precision: Precision, photos: list[Path]) -> Export:
    spec = file.with_suffix(".json")
    spec.write_text(json.dumps({"labels": LABELS, "image": {"height": 32, "width": 48}, "max_batch": 5}), "utf-8")
    target = Target(folder / "repository", "old", precisions=(precision,))
    return export_tagger(file, spec, target, Evidence(calibrate=photos[0].parent))


def published(folder: Path) -> onnx.ModelProto:
    return onnx.load(Repository.open(folder / "repository").taggers["old"][1].weights)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("opset", [7, 8, 9, 11, 12, 17])
def test_every_opset_is_published_in_every_precision(
    opset: int, precision: Precision, photos: list[Path], tmp_path: Path
):
    export = publish(classifier(tmp_path / "model.onnx", opset), tmp_path, precision, photos)
    model = published(tmp_path)
    assert precision_of(model) == precision
    assert model.opset_import[0].version == (max(opset, 13) if precision == "int8" else opset)
    if export.graphs[0].quantization is not None:
        assert export.graphs[0].quantization.layers == 1  # the convolution reads the image
    assert {finding.status for finding in check_repository(tmp_path / "repository")} == {"ok"}


def test_an_old_graph_that_cannot_be_converted_says_so(photos: list[Path], tmp_path: Path):
    file = classifier(tmp_path / "model.onnx", 8, spatial=False)
    publish(file, tmp_path / "as-it-is", "fp32", photos)
    words = (
        "int8 needs opset 13, and the graph has 8: export it again with opset 18, because .*spatial must have value 1"
    )
    with pytest.raises(GraphError, match=words) as caught:
        publish(file, tmp_path, "int8", photos)
    assert "/onnx/" not in str(caught.value)
    assert not (tmp_path / "repository/old").exists()


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("opset", [9, 11, 17])
def test_a_float16_model_is_published_within_the_tolerances_of_fp16(
    opset: int, precision: Precision, photos: list[Path], tmp_path: Path
):
    export = publish(classifier(tmp_path / "model.onnx", opset, half=True), tmp_path, precision, photos)
    assert precision_of(published(tmp_path)) == ("int8" if precision == "int8" else "fp16")
    wanted = TOLERANCES["int8" if precision == "int8" else "fp16"]["scores"]
    assert {difference.tolerance for difference in export.graphs[0].differences} == {wanted}


@pytest.mark.parametrize("keeps_ends", [False, True])
def test_a_model_that_a_converter_made_float16_is_published(keeps_ends: bool, photos: list[Path], tmp_path: Path):
    """The converter puts the Cast of a float32 input behind the node that reads it."""
    file = classifier(tmp_path / "model.onnx", 17)
    onnx.save(convert_float_to_float16(onnx.load(file), keep_io_types=keeps_ends), file)
    publish(file, tmp_path, "fp32", photos)
    assert precision_of(published(tmp_path)) == "fp16"
    assert {finding.status for finding in check_repository(tmp_path / "repository")} == {"ok"}


def test_a_float16_model_is_checked_as_a_gpu_computes_it(photos: list[Path], tmp_path: Path):
    publish(classifier(tmp_path / "model.onnx", 17, half=True), tmp_path, "fp32", photos)
    found = {finding.check: finding for finding in check_repository(tmp_path / "repository")}
    assert (
        "rounded as on a GPU, it differs from this CPU, which computes it in fp32: by at most"
        in found["in half precision"].found
    )
    assert found["in half precision"].status == "ok"
