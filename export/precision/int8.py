"""fp32 -> 8-bit integers for CPUs: static, per channel, calibrated on photos; too sensitive layers stay in fp32.

Q/DQ pairs stand around the layers with weights, and ONNX Runtime turns them into integer kernels. Activations are
uint8, which x86 multiplies fastest. CPUs without VNNI add the products of two neighbouring weights in 16 bits, which
saturate: so no two neighbours may add up to more than 128. A channel with two large neighbours gets a wider scale.
"""

import contextlib
import logging
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import version_converter
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import create_calibrator
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from export.half_arithmetic import in_single
from export.onnx_file import (
    OPSET,
    GraphError,
    Outputs,
    Pixels,
    batches_of,
    load_model,
    named_copy,
    one_line,
    open_session,
    run_all,
    session_runner,
    write_folded,
)
from export.pictures import Pictures
from export.simplify import simplify
from export.tolerances import TOLERANCES, Tolerance, precision_of
from labelwise.errors import DataError, LabelwiseError
from labelwise.spec import TrainedSpec

LEAST_PHOTOS, MOST_PHOTOS = 8, 256
# On photos that were not calibrated with: the mean absolute difference of a score, 0..1, and 1 - cosine of embeddings.
BUDGET = {"scores": 0.005, "embeddings": 0.01}
_EMBEDDINGS = Tolerance("cosine", BUDGET["embeddings"], mean_of_labels=True)
_MOST_LEFT_OUT = 0.5  # of the layers: with more there is no speed to win
_HELD_OUT = 4  # measures on every fourth photo, calibrates on the others
_PHOTOS_PER_LAYER = 16  # to measure the error of one layer: enough to rank the layers
_BATCH = 4  # photos at once: a calibrated graph keeps many activations, and more at once is not faster on a CPU

_LAYERS = ["Conv", "Gemm", "MatMul"]
_ACTIVATIONS = ["Clip", "Relu"]  # behind a layer: its output is quantized with their range, which is much smaller
_PROBABILITIES = "Softmax"  # differ in their order of magnitude, so 8 bits cannot hold them
_PER_CHANNEL = 13  # the first opset in which weights may have a scale for each channel


@dataclass(frozen=True)
class Quantization:
    """What calibration did: the number of layers in integers; those left out, with the share of the allowed error that
    each makes alone; the mean absolute difference of a score to the fp32 graph's, 0..1; the number of photos that
    calibrated and that measured.
    """

    layers: int
    left_out: dict[str, float]
    error: float
    calibrated: int
    measured: int

    def __str__(self) -> str:
        out = ", ".join(f"{name} (alone {share:.0%} of the error allowed)" for name, share in self.left_out.items())
        return (
            f"{self.layers} layers in 8 bits, calibrated on {self.calibrated} photos; on {self.measured} others scores "
            f"differ by {self.error:.4f} on average; left in fp32: {out or 'none'}"
        )

    def facts(self) -> dict[str, object]:
        """For the graph's metadata."""
        return {"quantization": {"left_out": self.left_out, "error": self.error, "photos": self.calibrated}}


def quantize(
    model: onnx.ModelProto, spec: TrainedSpec, photos: Pictures | None, symmetric: bool = False
) -> tuple[onnx.ModelProto, Quantization]:
    """Returns the graph with as many layers in integers as keep the error within BUDGET; the most sensitive stay out.

    `symmetric` is the form for TensorRT: signed integers around zero, also for activations. Raises DataError if there
    are too few photos, GraphError if an old opset cannot be converted, and LabelwiseError if more than half of the
    layers would have to stay out.
    """
    photos = enough(photos)
    held = np.arange(len(photos.names)) % _HELD_OUT == 0
    single = in_single(model, rounded=False) if precision_of(model) == "fp16" else model
    raised = _raise_opset(single, spec, photos.pixels[: min(LEAST_PHOTOS, spec.max_batch)])
    with tempfile.TemporaryDirectory() as scratch, _quiet():
        prepared = Path(scratch) / "prepared.onnx"
        write_folded(named_copy(raised), prepared)
        graph = _Calibrated(prepared, _ranges(prepared, spec, photos.pixels[~held]), symmetric)
        quantized, left_out, error = _within_budget(graph, _Error(model, spec, photos.pixels[held]))
    layers = len(graph.layers) - len(left_out)
    return simplify(quantized), Quantization(layers, left_out, error, int((~held).sum()), int(held.sum()))


def enough(photos: Pictures | None) -> Pictures:
    """Returns the photos to calibrate with. Raises DataError if there are none, or too few."""
    if photos is None or len(photos.names) < LEAST_PHOTOS:
        raise DataError(f"int8 needs --calibrate with photos like those to be tagged: {LEAST_PHOTOS}, better 200.")
    return photos


class _Calibrated:
    """A prepared graph and the range of each of its tensors; quantizes any choice of layers."""

    def __init__(self, file: Path, ranges: Any, symmetric: bool) -> None:
        model = load_model(file)
        self.layers = _layers(model)
        self._activations = _activations(model)
        self._model = onnx.shape_inference.infer_shapes(model).SerializeToString()
        self._ranges = ranges
        self._symmetric = symmetric
        self._weights = {} if symmetric else _weight_ranges(model, self.layers)

    def quantized(self, layers: Sequence[str]) -> onnx.ModelProto:
        symmetric = self._symmetric
        quantizer = QDQQuantizer(
            onnx.ModelProto.FromString(self._model),
            per_channel=True,
            reduce_range=False,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QInt8 if symmetric else QuantType.QUInt8,
            tensors_range=self._ranges,
            nodes_to_quantize=[*layers, *(self._activations[layer] for layer in layers if layer in self._activations)],
            nodes_to_exclude=[],
            op_types_to_quantize=[*_LAYERS, *_ACTIVATIONS],
            extra_options={
                "MatMulConstBOnly": True,  # products of two activations, as in attention, win no time and lose most
                "ActivationSymmetric": symmetric,
                "AddQDQPairToWeight": symmetric,
                "TensorQuantOverrides": self._weights,
            },
        )
        quantizer.quantize_model()
        return quantizer.model.model


@dataclass(frozen=True)
class _Difference:
    """Of a graph to the fp32 graph: the mean difference of each output that has a budget."""

    outputs: dict[str, float]

    @property
    def share(self) -> float:
        """Of the budget that is used up; the outputs are as good as the worst of them."""
        return max(value / BUDGET[name] for name, value in self.outputs.items())


class _Error:
    """Measures a graph's difference to the fp32 graph."""

    def __init__(self, model: onnx.ModelProto, spec: TrainedSpec, pixels: Pixels) -> None:
        self._spec = spec
        self._pixels = pixels
        self._expected = self._outputs(model, pixels)

    def __call__(self, model: onnx.ModelProto, photos: int | None = None) -> _Difference:
        """On the first `photos` of the photos held out, or on all."""
        outputs = self._outputs(model, self._pixels[:photos])
        pairs = {name: (values, self._expected[name][: len(values)]) for name, values in outputs.items()}
        means = {"scores": float(np.abs(np.subtract(*pairs["scores"])).mean())}
        if "embeddings" in pairs:
            means["embeddings"] = float(_EMBEDDINGS.distances(*pairs["embeddings"]).mean())
        return _Difference(means)

    def _outputs(self, model: onnx.ModelProto, pixels: Pixels) -> Outputs:
        runner = session_runner(open_session(model.SerializeToString()), self._spec)
        return run_all(runner, batches_of(pixels, self._spec, _BATCH))


class _Batches(CalibrationDataReader):  # type: ignore[misc]  # the library has no types
    def __init__(self, spec: TrainedSpec, pixels: Pixels) -> None:
        self._feeds = iter([{spec.input.name: batch} for batch in batches_of(pixels, spec, _BATCH)])

    def get_next(self) -> dict[str, Pixels] | None:
        return next(self._feeds, None)


def _within_budget(graph: _Calibrated, error_of: _Error) -> tuple[onnx.ModelProto, dict[str, float], float]:
    quantized = graph.quantized(graph.layers)
    whole = error_of(quantized)
    if whole.share <= 1:
        return quantized, {}, whole.outputs["scores"]
    alone = {layer: error_of(graph.quantized([layer]), _PHOTOS_PER_LAYER).share for layer in graph.layers}
    worst_first = sorted(alone, key=lambda layer: -alone[layer])
    for count in range(1, int(len(worst_first) * _MOST_LEFT_OUT) + 1):
        quantized = graph.quantized([layer for layer in graph.layers if layer not in worst_first[:count]])
        error = error_of(quantized)
        if error.share <= 1:
            return quantized, {layer: alone[layer] for layer in worst_first[:count]}, error.outputs["scores"]
    differ = " and ".join(f"{name} by {value:.4f}" for name, value in whole.outputs.items())
    allowed = " and ".join(f"{BUDGET[name]:g}" for name in whole.outputs)
    raise LabelwiseError(
        f"Not published: in 8 bits {differ} differ on average, and more than {allowed} even with half of the layers "
        "left out: calibrate with more photos like those to be tagged, or use fp16."
    )


def _layers(model: onnx.ModelProto) -> list[str]:
    """The names of the nodes that multiply with weights, except probabilities."""
    weights = {weights.name for weights in model.graph.initializer}
    exact = {output for node in model.graph.node if node.op_type == _PROBABILITIES for output in node.output}
    layers = [
        node.name
        for node in model.graph.node
        if node.op_type in _LAYERS and node.input[1] in weights and node.input[0] not in exact
    ]
    if not layers:
        raise GraphError("It has no layer with weights that could compute in 8 bits.")
    return layers


def _weight_ranges(model: onnx.ModelProto, layers: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """The range of each channel of the layers' weights, as the quantizer takes it, so that no products saturate.

    A channel's range, which -127..127 stands for, is the largest sum of two neighbours of one sign, in the order in
    which ONNX Runtime multiplies them: input channels fastest. So two neighbours add up to 127, or to 128 once rounded.
    Depthwise layers are multiplied in 32 bits; there the range is the largest weight.
    """
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    ranges = {}
    for node in model.graph.node:
        if node.name not in layers:
            continue
        weights = onnx.numpy_helper.to_array(tensors[node.input[1]])
        axis = _channel_axis(node, weights.ndim)
        rows = np.moveaxis(weights, axis, 0)  # o i h w, or o i
        is_depthwise = weights.ndim > 2 and rows.shape[1] == 1
        rows = np.moveaxis(rows, 1, -1).reshape(len(rows), -1)  # o i h w -> o (h w i)
        most = np.abs(rows).max(axis=1)
        if not is_depthwise:
            pairs = [signed[:, 1:] + signed[:, :-1] for signed in (rows.clip(min=0), -rows.clip(max=0))]
            most = np.concatenate([most[:, None], *pairs], axis=1).max(axis=1)
        ranges[node.input[1]] = [
            {"quant_type": QuantType.QInt8, "axis": axis, "symmetric": True, "rmin": -limit, "rmax": limit}
            for limit in most
        ]
    return ranges


def _channel_axis(node: onnx.NodeProto, dimensions: int) -> int:
    """Which axis of a layer's weights has its output channels."""
    if node.op_type == "Conv" or any(attribute.name == "transB" and attribute.i for attribute in node.attribute):
        return 0
    return dimensions - 1


def _activations(model: onnx.ModelProto) -> dict[str, str]:
    """The activation behind a layer, by the layer's name."""
    makers = {output: node.name for node in model.graph.node if node.op_type in _LAYERS for output in node.output}
    found = (node for node in model.graph.node if node.op_type in _ACTIVATIONS)
    return {makers[node.input[0]]: node.name for node in found if node.input[0] in makers}


def _ranges(file: Path, spec: TrainedSpec, pixels: Pixels) -> Any:
    calibrator = create_calibrator(
        file,
        [*_LAYERS, *_ACTIVATIONS],
        augmented_model_path=str(file.with_suffix(".aug.onnx")),
        calibrate_method=CalibrationMethod.MinMax,
    )
    calibrator.collect_data(_Batches(spec, pixels))
    return calibrator.compute_data()


def _raise_opset(model: onnx.ModelProto, spec: TrainedSpec, pixels: Pixels) -> onnx.ModelProto:
    """Returns the graph in an opset in which it can be quantized; an old exporter may have written an older one.

    Raises GraphError if onnx cannot convert it, or if the converted graph gives other scores for `pixels`.
    """
    version = next(opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx"))
    if version >= _PER_CHANNEL:
        return model
    refusal = f"int8 needs opset {_PER_CHANNEL}, and the graph has {version}: export it again with opset {OPSET}"
    try:
        raised = version_converter.convert_version(model, _PER_CHANNEL)
    except Exception as error:  # RuntimeError for an operator that onnx has no rule for, among others
        reason = one_line(error).rpartition("failed: ")[2]  # without the place in onnx's sources
        raise GraphError(f"{refusal}, because it cannot be converted: {reason}.") from error
    tolerance = TOLERANCES[precision_of(model)]["scores"]
    before, after = (session_runner(open_session(graph.SerializeToString()), spec)(pixels) for graph in (model, raised))
    distance = float(np.max(tolerance.distances(before["scores"], after["scores"])))
    if not distance <= tolerance.limit:  # false for NaN
        raise GraphError(f"{refusal}, because its scores differ by {distance:.2g} once it is converted.")
    return raised


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences the quantizer, which logs advice to the root logger."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
