"""An export is not done until it is checked: names, types, a dynamic batch, and the checkpoint's own numbers."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from export.graph import ServingGraph
from labelwise.errors import LabelwiseError
from labelwise.spec import TaggerSpec
from training.model import Tagger

# Largest absolute difference to PyTorch that fp32 arithmetic in another order explains.
TOLERANCE = {"scores": 1e-4, "embeddings": 1e-4, "attention": 1e-4}

Outputs = dict[str, NDArray[np.float32]]


class ParityError(LabelwiseError):
    """The exported graph disagrees with the checkpoint or with its contract; nothing may be published."""


@dataclass(frozen=True)
class Difference:
    """The largest absolute difference of one output at one batch size."""

    output: str
    batch: int
    value: float


def check_parity(tagger: Tagger, spec: TaggerSpec, file: Path) -> list[Difference]:
    """Compare `file` with the checkpoint at batch 1, 2 and max. Raises ParityError that names output and size."""
    session = _open_session(file)
    _check_signature(session, spec)
    differences = list(_compare(_torch_runner(tagger, spec), _onnx_runner(session, spec), spec))
    for difference in differences:
        if not difference.value <= TOLERANCE[difference.output]:  # NaN fails too
            raise ParityError(
                f"Not published: {difference.output} at batch {difference.batch} differs from the checkpoint by "
                f"{difference.value:.2g}, more than {TOLERANCE[difference.output]:g}."
            )
    return differences


def _open_session(file: Path) -> ort.InferenceSession:
    try:
        return ort.InferenceSession(file, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises its own unrelated classes
        raise ParityError(f"Not published: ONNX Runtime cannot load the exported graph: {error}") from error


def _check_signature(session: ort.InferenceSession, spec: TaggerSpec) -> None:
    types = {"uint8": "tensor(uint8)", "float32": "tensor(float)"}
    wanted = [(tensor.name, types[tensor.dtype], tensor.shape) for tensor in (spec.input, *spec.outputs)]
    tensors = (*session.get_inputs(), *session.get_outputs())
    found = [(tensor.name, tensor.type, tuple(tensor.shape[1:])) for tensor in tensors]
    if wanted != found:
        raise ParityError(f"Not published: the graph has {found}, its contract says {wanted}.")
    if any(isinstance(tensor.shape[0], int) for tensor in tensors):
        raise ParityError("Not published: the graph's batch dimension is fixed.")


def _compare(
    expected: Callable[[NDArray[np.uint8]], Outputs], actual: Callable[[NDArray[np.uint8]], Outputs], spec: TaggerSpec
) -> Iterator[Difference]:
    for batch in sorted({1, min(2, spec.max_batch), spec.max_batch}):
        pixels = _test_pixels(batch, spec)
        ours, theirs = expected(pixels), actual(pixels)
        for name in spec.output_names:
            yield Difference(name, batch, float(np.abs(ours[name] - theirs[name]).max()))


def _test_pixels(batch: int, spec: TaggerSpec) -> NDArray[np.uint8]:
    """Reproducible pictures uint8 [b, h, w, 3] with coarse and fine structure; flat noise would excite too little."""
    random = np.random.default_rng(batch)
    height, width, _ = spec.input.shape
    coarse = random.integers(0, 256, (batch, 8, 8, 3))
    grown = coarse.repeat(-(-height // 8), axis=1).repeat(-(-width // 8), axis=2)[:, :height, :width]
    return (grown + random.integers(-40, 41, grown.shape)).clip(0, 255).astype(np.uint8)


def _torch_runner(tagger: Tagger, spec: TaggerSpec) -> Callable[[NDArray[np.uint8]], Outputs]:
    graph = ServingGraph(tagger).eval()

    def run(pixels: NDArray[np.uint8]) -> Outputs:
        with torch.inference_mode():
            outputs = graph(torch.from_numpy(pixels))
        return {name: output.numpy() for name, output in zip(spec.output_names, outputs, strict=True)}

    return run


def _onnx_runner(session: ort.InferenceSession, spec: TaggerSpec) -> Callable[[NDArray[np.uint8]], Outputs]:
    def run(pixels: NDArray[np.uint8]) -> Outputs:
        outputs = session.run(list(spec.output_names), {spec.input.name: pixels})
        return dict(zip(spec.output_names, outputs, strict=True))

    return run
