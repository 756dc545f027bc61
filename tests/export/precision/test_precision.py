"""The bundled graph in half and 8-bit precision: the same contract, a smaller graph."""

import collections
import math
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest

import export.precision.int8
from export.half_arithmetic import open_as_computed
from export.metadata import facts_of
from export.onnx_file import load_model, open_session, session_runner, signature_faults
from export.parity import check_parity
from export.pictures import Pictures, drawn_pictures, pictures_for
from export.precision import convert
from export.precision.calibrated import _activations
from export.precision.half import to_half
from export.precision.int8 import Quantization, quantize
from export.simplify import superfluous_nodes
from export.tolerances import Precision, precision_of
from labelwise.errors import DataError, LabelwiseError
from labelwise.spec import TaggerSpec


@pytest.fixture(scope="module")
def bundled(repository: Path) -> TaggerSpec:
    return TaggerSpec.read(repository / "scenes")


@pytest.fixture(scope="module")
def fp32(repository: Path) -> Path:
    return repository / "scenes_model/1/model.onnx"


@pytest.fixture(scope="module")
def upright(bundled: TaggerSpec, photos: list[Path]) -> Pictures:
    """Real photographs, as the tagger was trained on them."""
    return pictures_for(bundled, photos[0].parent)


@pytest.fixture(scope="module")
def pictures(upright: Pictures) -> Pictures:
    """The photographs, each four ways round: eight are too few to calibrate with and to measure on others."""
    turned = np.concatenate([np.rot90(upright.pixels, turns, (1, 2)) for turns in range(4)])
    return Pictures(tuple(map(str, range(len(turned)))), np.ascontiguousarray(turned))


@pytest.fixture(scope="module")
def drawn(spec: TaggerSpec) -> Pictures:
    """For the small graph of the checkpoint, which quantizes in seconds."""
    return drawn_pictures(spec.image, 16)


Converted = Callable[[Precision], tuple[Path, Quantization | None]]


@pytest.fixture(scope="module")
def converted(
    fp32: Path, bundled: TaggerSpec, pictures: Pictures, tmp_path_factory: pytest.TempPathFactory
) -> Converted:
    """converted(precision) is the bundled graph in that precision, made once, and what calibrated it."""

    @cache
    def convert_once(precision: Precision) -> tuple[Path, Quantization | None]:
        file = Path(shutil.copy(fp32, tmp_path_factory.mktemp(precision) / "model.onnx"))
        return file, convert(file, bundled, precision, pictures)

    return convert_once


@pytest.fixture(scope="module")
def quantized(converted: Converted) -> tuple[onnx.ModelProto, Quantization]:
    """Not to be written to."""
    file, report = converted("int8")
    assert report
    return load_model(file), report


@pytest.fixture(scope="module")
def whole(graph: Path, spec: TaggerSpec, drawn: Pictures) -> tuple[onnx.ModelProto, Quantization]:
    """The small graph with as many layers in integers as can be."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export.precision.int8, "BUDGET", {"scores": 1.0, "embeddings": 1.0})
        return quantize(load_model(graph), spec, drawn)


@pytest.fixture
def allow(monkeypatch: pytest.MonkeyPatch) -> Callable[[float, float], None]:
    """Sets the budget of the scores and that of the embeddings."""

    def set_budget(scores: float, embeddings: float) -> None:
        monkeypatch.setattr(export.precision.int8, "BUDGET", {"scores": scores, "embeddings": embeddings})

    return set_budget


def bytes_as_float32(model: onnx.ModelProto) -> int:
    """The size of the weights. A graph of fp32 may store them as float16, so its file says nothing about it."""
    return 4 * sum(math.prod(weights.dims) for weights in model.graph.initializer)


@pytest.mark.parametrize(("precision", "times_smaller"), [("fp16", 1.9), ("int8", 2.5)])  # int8 leaves layers out
def test_a_converted_graph_keeps_its_contract_and_is_smaller(
    precision: Precision,
    times_smaller: float,
    fp32: Path,
    bundled: TaggerSpec,
    pictures: Pictures,
    upright: Pictures,
    converted: Converted,
):
    file, _ = converted(precision)
    model = load_model(file)
    assert precision_of(model) == facts_of(model)["precision"] == precision
    assert facts_of(model)["labels"] == list(bundled.labels)
    assert not signature_faults(model, bundled)
    assert not superfluous_nodes(model)
    casts = [node for node in model.graph.node if node.op_type == "Cast"]
    assert not {node.input[0] for node in casts} & {node.output[0] for node in casts}
    assert file.stat().st_size < bytes_as_float32(load_model(fp32)) / times_smaller
    reference = session_runner(open_session(fp32), bundled)
    # On photos that lie on a side, a lower precision loses more. Eight are too few to calibrate int8 that well.
    check_parity(reference, "fp32", bundled, file, pictures if precision == "fp16" else upright, precision, True)


def test_half_precision_keeps_sums_of_squares_and_the_first_convolutions_in_fp32(converted: Converted):
    model = onnx.shape_inference.infer_shapes(load_model(converted("fp16")[0]))
    kinds = {value.name: value.type.tensor_type.elem_type for value in model.graph.value_info}
    norms = [node.input[0] for node in model.graph.node if node.op_type == "ReduceL2"]
    convolutions = [node.input[0] for node in model.graph.node if node.op_type == "Conv"]
    assert {kinds[name] for name in norms} == {onnx.TensorProto.FLOAT}
    assert {kinds[name] for name in convolutions[:2]} == {onnx.TensorProto.FLOAT}
    assert {kinds[name] for name in convolutions[2:]} == {onnx.TensorProto.FLOAT16}


def test_the_best_scores_do_not_tie_in_half_precision(
    fp32: Path, bundled: TaggerSpec, upright: Pictures, tmp_path: Path
):
    half = to_half(sure_of_every_label(load_model(fp32)))
    onnx.save_model(half, tmp_path / "half.onnx")
    matrices = {weights.name for weights in half.graph.initializer if len(weights.dims) > 1}
    producers = {name: node for node in half.graph.node for name in node.output}
    kept, name = [], "scores"
    while producers[name].op_type != "Cast":  # the chain from the scores back to where half precision ends
        kept.append(producers[name])
        name = kept[-1].input[0]
    assert [node.op_type for node in kept if matrices & {*node.input}] == [kept[-1].op_type]  # the last layer
    run = session_runner(open_as_computed(tmp_path / "half.onnx"), bundled)
    scores = run(upright.pixels)["scores"]
    assert (scores.astype(np.float16) == 1).all()  # half precision could not tell them apart
    assert np.mean([len(np.unique(row)) == len(row) for row in scores]) > 0.9
    assert scores.max() < 1


def sure_of_every_label(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with every logit between 8.4 and 12, so that all scores are close to 1."""
    sigmoid = next(node for node in model.graph.node if "scores" in node.output)
    for name, value in (("narrow", 0.2), ("high", 10.0)):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(value), name))
    narrowed = onnx.helper.make_node("Mul", [sigmoid.input[0], "narrow"], ["narrowed"])
    raised = onnx.helper.make_node("Add", ["narrowed", "high"], ["raised"])
    place = list(model.graph.node).index(sigmoid)
    sigmoid.input[0] = "raised"
    for node in (raised, narrowed):
        model.graph.node.insert(place, node)
    return model


def test_integers_are_per_channel_and_leave_room_for_cpus_that_saturate(
    quantized: tuple[onnx.ModelProto, Quantization],
):
    model, report = quantized
    tensors = {weights.name: onnx.numpy_helper.to_array(weights) for weights in model.graph.initializer}
    layers = [tensors[name] for name in tensors if name.endswith("_quantized") and tensors[name].ndim > 1]
    assert len(layers) == report.layers
    assert {weights.dtype for weights in layers} == {np.dtype(np.int8)}
    scales = [tensors[name] for name in tensors if name.endswith("weight_scale")]
    assert scales
    assert all(scale.ndim == 1 and len(scale) > 1 for scale in scales)
    activations = {tensors[node.input[2]].dtype for node in model.graph.node if node.op_type == "QuantizeLinear"}
    assert activations == {np.dtype(np.uint8)}
    assert report.error <= export.precision.int8.BUDGET["scores"]
    assert len(report.left_out) < report.layers / 2
    assert (report.calibrated, report.measured) == (24, 8)


def test_neighbours_that_are_multiplied_together_do_not_saturate(quantized: tuple[onnx.ModelProto, Quantization]):
    """255 * 128 is the most that two neighbours may make in the 16 bits of a CPU without VNNI."""
    pointwise = [
        onnx.numpy_helper.to_array(weights).astype(int)[:, :, 0, 0]  # o i 1 1 -> o i
        for weights in quantized[0].graph.initializer
        if weights.name.endswith("_quantized") and weights.dims[2:] == [1, 1]
    ]
    assert len(pointwise) > 10
    for signed in (part for weights in pointwise for part in (weights.clip(min=0), -weights.clip(max=0))):
        assert (signed[:, 1:] + signed[:, :-1]).max() <= 128
    assert np.mean([np.abs(weights).max(axis=1).mean() for weights in pointwise]) > 80  # more than 6 of their 7 bits


def test_the_output_of_a_layer_is_quantized_behind_its_activation(
    fp32: Path, quantized: tuple[onnx.ModelProto, Quantization]
):
    """The range that its integers have then replaces the activation."""
    before, (after, report) = load_model(fp32), quantized
    activations = [sum(node.op_type in ("Clip", "Relu") for node in model.graph.node) for model in (before, after)]
    behind = _activations(before)
    of_image = next(node.name for node in before.graph.node if node.op_type == "Conv")
    replaced = behind.keys() - report.left_out.keys() - {of_image}
    assert len(replaced) > 5
    assert activations[1] == activations[0] - len(replaced)


def test_the_reported_error_is_that_of_photos_not_calibrated_with(
    fp32: Path, bundled: TaggerSpec, pictures: Pictures, quantized: tuple[onnx.ModelProto, Quantization]
):
    model, report = quantized
    held = pictures.pixels[::4]
    ours = session_runner(open_session(fp32), bundled)(held)["scores"]
    theirs = session_runner(open_session(model.SerializeToString()), bundled)(held)["scores"]
    assert report.error == pytest.approx(float(np.abs(ours - theirs).mean()), rel=1e-3)
    assert 0 < report.error < 0.02


def test_the_most_sensitive_layers_are_left_out_until_the_error_is_within_the_budget(
    graph: Path,
    spec: TaggerSpec,
    drawn: Pictures,
    whole: tuple[onnx.ModelProto, Quantization],
    allow: Callable[[float, float], None],
):
    allowed = whole[1].error * 0.9
    allow(allowed, 1.0)
    model, report = quantize(load_model(graph), spec, drawn)
    assert report.error <= allowed
    assert 0 < len(report.left_out) == whole[1].layers - report.layers
    assert list(report.left_out.values()) == sorted(report.left_out.values(), reverse=True)
    kinds = {weights.name: weights.data_type for weights in model.graph.initializer}
    left = [node for node in model.graph.node if node.name in report.left_out]
    assert {kinds[node.input[1]] for node in left} == {onnx.TensorProto.FLOAT}
    assert all(name in str(report) for name in report.left_out)


def test_the_embeddings_have_a_budget_too(
    graph: Path,
    spec: TaggerSpec,
    drawn: Pictures,
    whole: tuple[onnx.ModelProto, Quantization],
    allow: Callable[[float, float], None],
):
    assert not whole[1].left_out
    allowed = embedding_distance(graph, whole[0], spec, drawn) * 0.9
    allow(1.0, allowed)
    model, report = quantize(load_model(graph), spec, drawn)
    assert report.left_out
    assert embedding_distance(graph, model, spec, drawn) <= allowed


def embedding_distance(graph: Path, model: onnx.ModelProto, spec: TaggerSpec, drawn: Pictures) -> float:
    """Mean 1 - cosine on the photos that are not calibrated with."""
    runs = [session_runner(open_session(source), spec) for source in (graph, model.SerializeToString())]
    ours, theirs = (run(drawn.pixels[::4])["embeddings"] for run in runs)
    return float((1 - (ours * theirs).sum(axis=-1)).mean())


def test_a_graph_is_refused_if_too_many_layers_would_stay_in_fp32(
    graph: Path,
    spec: TaggerSpec,
    drawn: Pictures,
    monkeypatch: pytest.MonkeyPatch,
    allow: Callable[[float, float], None],
):
    allow(0.0001, 0.0001)
    monkeypatch.setattr(export.precision.int8, "_MOST_LEFT_OUT", 0.06)
    differ = (
        r"^Not published: in 8 bits scores by 0\.0\d+ and embeddings by 0\.\d+ differ on average, and more than 0.0001"
    )
    with pytest.raises(LabelwiseError, match=differ):
        quantize(load_model(graph), spec, drawn)


def test_tensorrt_gets_symmetric_pairs_around_weights_and_activations(
    fp32: Path, bundled: TaggerSpec, upright: Pictures, allow: Callable[[float, float], None]
):
    allow(0.02, 0.1)  # so that no layer has to be left out
    model, report = quantize(load_model(fp32), bundled, upright, symmetric=True)
    tensors = {weights.name: onnx.numpy_helper.to_array(weights) for weights in model.graph.initializer}
    pairs = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    assert {tensors[node.input[2]].dtype for node in pairs} == {np.dtype(np.int8)}
    assert not any(tensors[node.input[2]].any() for node in pairs)
    of_weights = [node for node in pairs if node.input[0] in tensors and tensors[node.input[0]].ndim > 1]
    assert len(of_weights) == report.layers
    restored = [node for node in model.graph.node if node.op_type == "DequantizeLinear"]
    assert not any(node.input[0] in tensors for node in restored)  # biases stay in fp32
    assert all((tensors[node.input[1]] > 0).all() for node in [*pairs, *restored])
    assert report.error < 0.02


def test_too_few_photos_are_refused(fp32: Path, bundled: TaggerSpec, pictures: Pictures):
    few = Pictures(pictures.names[:7], pictures.pixels[:7])
    for photos in (None, few):
        with pytest.raises(DataError, match=r"^int8 needs --calibrate with photos .*: 8, better 200\.$"):
            quantize(load_model(fp32), bundled, photos)


def test_every_kind_of_operator_survives(fp32: Path, quantized: tuple[onnx.ModelProto, Quantization]):
    """Q/DQ pairs are added; nothing that computes is lost or doubled."""
    kinds = [
        collections.Counter(node.op_type for node in model.graph.node) for model in (load_model(fp32), quantized[0])
    ]
    assert {name: kinds[1][name] for name in ("Conv", "MatMul", "Softmax")} == {
        name: kinds[0][name] for name in ("Conv", "MatMul", "Softmax")
    }
