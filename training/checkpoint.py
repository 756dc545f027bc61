"""A run's folder: model.safetensors with tagger.json (exactly what was scored), state.pt to resume from, and
stage1.safetensors (the EMA weights that stage 2 began with)."""

import hashlib
import io
import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from labelwise.errors import LabelwiseError, SpecError
from labelwise.files import sha256_of, write_atomically
from labelwise.spec import SPEC_FILE, DataSpec, ImageSpec, TensorSpec, TrainedSpec
from labelwise.validation import first_refusal
from labelwise.version import VERSION
from training.config import Method, ModelConfig, TrainConfig
from training.data.labelled_data import LabelledData
from training.evaluator import Fitted
from training.model import TaggerNetwork

WEIGHTS_FILE = "model.safetensors"
STAGE_1_FILE = "stage1.safetensors"
STATE_FILE = "state.pt"
_PREVIOUS_FILE = ".previous.safetensors"
_STATE_FORMAT = 3
HISTORY_FILE = "history.jsonl"
REPORT_FILE = "report.html"


def make_spec(
    config: TrainConfig,
    labels: tuple[str, ...],
    grid: tuple[int, int] | None,
    data: DataSpec,
    thresholds: list[float],
    metrics: dict[str, float],
    weights_sha256: str,
) -> TrainedSpec:
    """The contract of what `config` trains.

    Its outputs are some of those that ServingGraph in export/checkpoint_graph.py can give. `grid` is that of the
    attention maps, None for a tagger that has nothing but scores.
    """
    image, width = config.image, config.model.projection_dim
    outputs = [TensorSpec(name="scores", dtype="float32", shape=(len(labels),))]
    if grid is not None:
        outputs.append(TensorSpec(name="embeddings", dtype="float32", shape=(len(labels), width)))
        outputs.append(TensorSpec(name="attention", dtype="float32", shape=(len(labels), *grid)))
    return TrainedSpec(
        labels=labels,
        thresholds=tuple(thresholds),
        image=image,
        input=TensorSpec(name="image", dtype="uint8", shape=(image.height, image.width, 3)),
        outputs=tuple(outputs),
        embedding_dim=width if grid is not None else None,
        attention_grid=grid,
        max_batch=config.max_batch,
        backbone=config.model.backbone,
        metrics=metrics,
        data=data,
        training=config.model_dump(mode="json", exclude={"image", "max_batch"}),
        producer=f"labelwise {VERSION}",
        weights_sha256=weights_sha256,
    )


def save_weights(file: Path, state: dict[str, torch.Tensor]) -> str:
    """Write a model's state atomically. Returns the SHA-256 of the file."""
    content = serialised(state)
    write_file(file, content)
    return hashlib.sha256(content).hexdigest()


def save_checkpoint(run: Path, state: dict[str, torch.Tensor], make: Callable[[str], TrainedSpec]) -> None:
    """Write weights and contract so that a crash between the two, or a full disk, leaves a complete checkpoint.

    `make` returns the contract for the SHA-256 of the weights. The old weights stay, under another name, until the new
    contract is in place; `load_checkpoint` takes those that the contract describes.
    """
    content = serialised(state)
    file, previous = run / WEIGHTS_FILE, run / _PREVIOUS_FILE
    spec = make(hashlib.sha256(content).hexdigest())
    with explained(file):
        if file.is_file():
            previous.unlink(missing_ok=True)
            os.link(file, previous)
        write_atomically(file, content)
        write_atomically(run / SPEC_FILE, spec.to_json().encode())
        previous.unlink(missing_ok=True)


def save_fitted(run: Path, model: TaggerNetwork, fitted: Fitted, config: TrainConfig, data: LabelledData) -> None:
    """Save `model` and its contract, with the temperature, thresholds and metrics that val gave it."""
    state = model.state_dict() | {"temperature": torch.tensor(fitted.temperature)}
    grid = model.grid if model.label_level else None
    facts = (data.describe(), list(fitted.thresholds), fitted.metrics)
    save_checkpoint(run, state, partial(make_spec, config, data.labels, grid, *facts))


def serialised(state: dict[str, torch.Tensor]) -> bytes:
    """The content of a .safetensors file. Weights that `rounded_to_half` leaves as they are take half the bytes."""
    stored = {}
    for name, tensor in state.items():
        half = _as_half(tensor)
        stored[name] = half if half is not None and torch.equal(half.to(tensor.dtype), tensor) else tensor
    return save({name: tensor.detach().cpu().contiguous() for name, tensor in stored.items()})


def rounded_to_half(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rounds each weight to the nearest float16 value; the types stay. So files may hold it in half the bytes.

    A weight is a floating tensor of two or more dimensions. Vectors (norms, biases, batch statistics) stay whole, and
    so does a weight with a value that float16 does not reach.
    """
    halves = {name: _as_half(tensor) for name, tensor in state.items()}
    return {name: tensor if (half := halves[name]) is None else half.to(tensor.dtype) for name, tensor in state.items()}


def _as_half(tensor: torch.Tensor) -> torch.Tensor | None:
    """A weight as float16; None for another tensor, and for values beyond float16's range."""
    if not tensor.is_floating_point() or tensor.ndim < 2:
        return None
    half = tensor.detach().half()
    return half if half.isfinite().all() else None


def load_checkpoint(run: Path, weights: str = WEIGHTS_FILE) -> tuple[TaggerNetwork, TrainedSpec]:
    """The trained network in evaluation mode, and its contract. Raises LabelwiseError without a complete checkpoint.

    `weights` may be STAGE_1_FILE: the network before stage 2, uncalibrated.
    """
    if not (run / SPEC_FILE).is_file() or not (run / weights).is_file():
        raise LabelwiseError(f"{run} is not a trained run: it needs {weights} and {SPEC_FILE} from `labelwise train`.")
    spec = TrainedSpec.read(run)
    file = _described_weights(run, spec) if weights == WEIGHTS_FILE else run / weights
    config, method = _model_of(spec, run)
    model = TaggerNetwork(len(spec.labels), spec.image, config, method)
    try:
        model.load_state_dict(load_file(file))
    except (RuntimeError, SafetensorError) as error:
        raise LabelwiseError(
            f"{run / weights} does not fit the model its {SPEC_FILE} describes; train again or restore it."
        ) from error
    return model.eval(), spec


def _described_weights(run: Path, spec: TrainedSpec) -> Path:
    """The weights that the contract describes. After a crash while saving, these are the previous ones."""
    for file in (run / WEIGHTS_FILE, run / _PREVIOUS_FILE):
        if file.is_file() and sha256_of(file) == spec.weights_sha256:
            return file
    raise LabelwiseError(
        f"{run / WEIGHTS_FILE} is not the file its {SPEC_FILE} describes: restore it, or go on with `train --resume`."
    )


def _model_of(spec: TrainedSpec, run: Path) -> tuple[ModelConfig, Method]:
    try:
        trained = _Trained.model_validate(spec.training)
    except ValidationError as error:
        raise SpecError(f"{run / SPEC_FILE} is not a valid tagger: training.{first_refusal(error)}") from error
    # The weights come from the checkpoint; the file or hub of the pretrained backbone is not needed.
    return trained.model.model_copy(update={"pretrained": False, "weights": None}), trained.method


class _Trained(BaseModel):
    """The settings that the network depends on."""

    model: ModelConfig
    method: Method = "mulcon"


def save_state(run: Path, state: dict[str, Any]) -> None:
    """Write everything that a resumed run needs, atomically. Any failure ends the run."""
    buffer = io.BytesIO()
    torch.save(state | {"format": _STATE_FORMAT}, buffer)
    write_file(run / STATE_FILE, buffer.getvalue())


def load_state(run: Path) -> dict[str, Any] | None:
    file = run / STATE_FILE
    if not file.is_file():
        return None
    try:
        with zipfile.ZipFile(file) as archive:
            damaged = archive.testzip()  # torch itself checks no checksums
        state = None if damaged else torch.load(file, map_location="cpu", weights_only=True)
    except Exception:  # an unpickler may raise anything
        state = None
    if not isinstance(state, dict):
        raise LabelwiseError(f"{file} is damaged: restore it, or train again into another --out.")
    return state


def state_to_resume(run: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    """The state of a run with this `identity` ("settings" and "data"), None if there is no run.

    Raises LabelwiseError for the state of another run, or of a run that has lost its weights.
    """
    state = load_state(run)
    if state is None:
        return None
    if not (run / WEIGHTS_FILE).is_file() and state.get("epoch"):
        raise LabelwiseError(f"{run} has lost its {WEIGHTS_FILE}: restore it, or train into a new --out.")
    for key, mine, what in (
        ("format", _STATE_FORMAT, "by another version of labelwise"),
        ("settings", identity["settings"], "with other settings"),
        ("data", identity["data"], "on other data"),
    ):
        if state.get(key) != mine:
            raise LabelwiseError(f"{run} was trained {what}: resume with the same, or use a new --out.")
    return state


def trained_image(run: Path) -> ImageSpec | None:
    """How the run in this folder prepares its photos, None if there is no run. Raises LabelwiseError if damaged."""
    if (run / STATE_FILE).is_file() and (run / SPEC_FILE).is_file():
        with suppress(SpecError):  # the state has it, too
            return TrainedSpec.read(run).image
    state = load_state(run)
    return None if state is None else ImageSpec.model_validate(state["settings"]["image"])


_RESUME = "make room or repair the folder, then go on with --resume"


def write_file(file: Path, content: bytes, advice: str = _RESUME) -> None:
    """Write atomically. Raises LabelwiseError with `advice` if `file` cannot be written."""
    with explained(file, advice):
        write_atomically(file, content)


@contextmanager
def explained(file: Path, advice: str = _RESUME) -> Iterator[None]:
    """For a block that writes `file`. Raises LabelwiseError with `advice` if it cannot be written."""
    try:
        yield
    except OSError as error:
        raise LabelwiseError(f"{file} cannot be written: {error.strerror or error}; {advice}.") from error
