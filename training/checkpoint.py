"""A run's folder: model.safetensors with tagger.json (exactly what was scored), and state.pt to resume from."""

import os
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save
from torch import nn

from labelwise import __version__
from labelwise.errors import LabelwiseError, SpecError
from labelwise.spec import SPEC_FILE, DataSpec, TaggerSpec, TensorSpec, sha256_of, write_atomically
from training.config import ModelConfig, TrainConfig
from training.model import Tagger

WEIGHTS_FILE = "model.safetensors"
STATE_FILE = "state.pt"
HISTORY_FILE = "history.jsonl"


def make_spec(
    config: TrainConfig,
    labels: tuple[str, ...],
    grid: tuple[int, int],
    data: DataSpec,
    thresholds: list[float],
    metrics: dict[str, float],
    weights_sha256: str,
) -> TaggerSpec:
    """The contract of what `config` trains; its name and version are placeholders until export."""
    image, width = config.image, config.model.projection_dim
    return TaggerSpec(
        name="untitled",
        version=1,
        labels=labels,
        thresholds=tuple(thresholds),
        image=image,
        input=TensorSpec(name="image", dtype="uint8", shape=(image.height, image.width, 3)),
        outputs=(
            TensorSpec(name="scores", dtype="float32", shape=(len(labels),)),
            TensorSpec(name="embeddings", dtype="float32", shape=(len(labels), width)),
            TensorSpec(name="attention", dtype="float32", shape=(len(labels), *grid)),
        ),
        embedding_dim=width,
        attention_grid=grid,
        max_batch=config.max_batch,
        backbone=config.model.backbone,
        metrics=metrics,
        data=data,
        training=config.model_dump(mode="json", exclude={"image", "max_batch"}),
        producer=f"labelwise {__version__}",
        weights_sha256=weights_sha256,
    )


def save_weights(run: Path, model: nn.Module) -> str:
    """Write the weights atomically; returns their SHA-256."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    write_atomically(run / WEIGHTS_FILE, save(state))
    return sha256_of(run / WEIGHTS_FILE)


def load_checkpoint(run: Path) -> tuple[Tagger, TaggerSpec]:
    """The trained model in evaluation mode with its contract. LabelwiseError if `run` holds no whole checkpoint."""
    if not (run / SPEC_FILE).is_file() or not (run / WEIGHTS_FILE).is_file():
        raise LabelwiseError(
            f"{run} is not a trained run: it needs {WEIGHTS_FILE} and {SPEC_FILE} from `labelwise train`."
        )
    spec = TaggerSpec.read(run)
    if sha256_of(run / WEIGHTS_FILE) != spec.weights_sha256:
        raise LabelwiseError(
            f"{run / WEIGHTS_FILE} is not the file its {SPEC_FILE} describes; train again or restore it."
        )
    config = _model_config(spec, run).model_copy(update={"pretrained": False})
    model = Tagger(len(spec.labels), spec.image, config)
    try:
        model.load_state_dict(load_file(run / WEIGHTS_FILE))
    except RuntimeError as error:
        raise LabelwiseError(f"{run / WEIGHTS_FILE} does not fit the model its {SPEC_FILE} describes.") from error
    return model.eval(), spec


def _model_config(spec: TaggerSpec, run: Path) -> ModelConfig:
    try:
        return ModelConfig.model_validate(spec.training.get("model"))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(["training.model", *map(str, first["loc"])])
        raise SpecError(f"{run / SPEC_FILE} is not a valid tagger: {field}: {first['msg']}") from error


def save_state(run: Path, state: dict[str, Any]) -> None:
    """Write everything a resumed run needs, atomically; any failure ends the run."""
    aside = run / f".{STATE_FILE}.{os.getpid()}"
    torch.save(state, aside)
    aside.replace(run / STATE_FILE)


def load_state(run: Path) -> dict[str, Any] | None:
    file = run / STATE_FILE
    return torch.load(file, map_location="cpu", weights_only=True) if file.is_file() else None
