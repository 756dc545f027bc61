"""`labelwise train`: settings and paths checked before anything slow, then the loop."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich import print as rich_print

from labelwise.errors import LabelwiseError
from training.checkpoint import STATE_FILE
from training.config import TrainConfig
from training.data import read_data
from training.loop import Trainer


def train_run(source: Path, out: Path, settings: list[str], resume: bool = False) -> dict[str, float]:
    """Train on `source` into the folder `out`; returns the best epoch's val metrics."""
    config = make_config(settings)
    data = read_data(source, config.seed)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LabelwiseError(f"{out} cannot be made a folder: {error.strerror}; choose another --out.") from error
    if (out / STATE_FILE).exists() and not resume:
        raise LabelwiseError(f"{out} already holds a run: add --resume to go on with it, or choose another --out.")
    rich_print(f"{len(data.train)} photos to train on, {len(data.val)} for val, {len(data.labels)} labels.")
    metrics = Trainer(config, data, out).run()
    rich_print(f"Best epoch: {', '.join(f'{name} {value:.4f}' for name, value in metrics.items())}. Saved in {out}.")
    return metrics


def make_config(settings: list[str]) -> TrainConfig:
    """A TrainConfig from `key=value` settings; LabelwiseError names a wrong one."""
    try:
        return TrainConfig.model_validate(_merged(TrainConfig().model_dump(), _nested(settings)))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(map(str, first["loc"])) or "of the run"
        raise LabelwiseError(f"The setting {name}: {first['msg'].removeprefix('Value error, ')}.") from error


def _merged(defaults: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """`defaults` with `settings` laid over them, section by section."""
    merged = defaults | settings
    for key, value in settings.items():
        if isinstance(value, dict) and isinstance(defaults.get(key), dict):
            merged[key] = _merged(defaults[key], value)
    return merged


def _nested(pairs: list[str]) -> dict[str, Any]:
    """`a.b=1` pairs to a nested dict; values stay text, which pydantic converts."""
    nested: dict[str, Any] = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise LabelwiseError(f"The setting {pair!r} is not key=value.")
        *parents, leaf = key.split(".")
        place = nested
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise LabelwiseError(f"The setting {pair!r}: {parent} has no parts.")
        place[leaf] = value
    return nested
