"""fp32 -> 8-bit integers for CPUs: static, per channel, calibrated on photos; too sensitive layers stay in fp32."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import onnx

from export.half_arithmetic import in_single
from export.onnx_file import Outputs, Pixels, batches_of, open_session, run_all, session_runner
from export.pictures import Pictures
from export.precision.calibrated import BATCH, Calibrated
from export.precision.newer_opset import raise_opset
from export.simplify import simplify
from export.tolerances import Tolerance, precision_of
from labelwise.errors import DataError, LabelwiseError
from labelwise.spec import TrainedSpec

LEAST_PHOTOS, MOST_PHOTOS = 8, 256
# On photos that were not calibrated with: the mean absolute difference of a score, 0..1, and 1 - cosine of embeddings.
BUDGET = {"scores": 0.005, "embeddings": 0.01}
_EMBEDDINGS = Tolerance("cosine", BUDGET["embeddings"], mean_of_labels=True)
_MOST_LEFT_OUT = 0.5  # of the layers: with more there is no speed to win
_NEAR_THE_IMAGE = 0.1  # of the layers: there, integers save little time and cost most accuracy
_HELD_OUT = 4  # measures on every fourth photo, calibrates on the others
_PHOTOS_PER_LAYER = 16  # to measure the error of one layer: enough to rank the layers


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
            f"differ by {self.error:.4f} on average; too sensitive, so in fp32: {out or 'none'}"
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
    raised = raise_opset(single, spec, photos.pixels[: min(LEAST_PHOTOS, spec.max_batch)])
    graph = Calibrated(raised, spec, photos.pixels[~held], symmetric)
    quantized, left_out, error = _within_budget(graph, _Error(model, spec, photos.pixels[held]))
    layers = len(graph.layers) - len(left_out)
    return simplify(quantized), Quantization(layers, left_out, error, int((~held).sum()), int(held.sum()))


def enough(photos: Pictures | None) -> Pictures:
    """Returns the photos to calibrate with. Raises DataError if there are none, or too few."""
    if photos is None or len(photos.names) < LEAST_PHOTOS:
        raise DataError(f"int8 needs --calibrate with photos like those to be tagged: {LEAST_PHOTOS}, better 200.")
    return photos


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
        return run_all(runner, batches_of(pixels, self._spec, BATCH))


def _within_budget(graph: Calibrated, error_of: _Error) -> tuple[onnx.ModelProto, dict[str, float], float]:
    @cache
    def alone(layer: str) -> float:
        return error_of(graph.quantized([layer]), _PHOTOS_PER_LAYER).share

    errors = []
    for left_out in _choices(graph.layers, alone):
        quantized = graph.quantized([layer for layer in graph.layers if layer not in left_out])
        errors.append(error := error_of(quantized))
        if error.share <= 1:
            shares = {layer: alone(layer) for layer in sorted(left_out, key=alone, reverse=True)}
            return quantized, shares, error.outputs["scores"]
    whole = errors[0]
    differ = " and ".join(f"{name} by {value:.4f}" for name, value in whole.outputs.items())
    allowed = " and ".join(f"{BUDGET[name]:g}" for name in whole.outputs)
    raise LabelwiseError(
        f"Not published: in 8 bits {differ} differ on average, and more than {allowed} even with half of the layers "
        "left out: calibrate with more photos like those to be tagged, or use fp16."
    )


def _choices(layers: Sequence[str], alone: Callable[[str], float]) -> Iterator[Sequence[str]]:
    """Which layers to leave out, in the order in which to try it: none; those nearest to the image, where nothing is
    converted between integers and fp32 in addition; then the most sensitive ones, wherever they are."""
    for count in range(int(len(layers) * _NEAR_THE_IMAGE) + 1):
        yield layers[:count]
    worst_first = sorted(layers, key=alone, reverse=True)
    for count in range(1, int(len(layers) * _MOST_LEFT_OUT) + 1):
        yield worst_first[:count]
