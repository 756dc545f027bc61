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
    out.mkdir(parents=True, exist_ok=True)
    if (out / STATE_FILE).exists() and not resume:
        raise LabelwiseError(f"{out} already holds a run: add --resume to go on with it, or choose another --out.")
    rich_print(f"{len(data.train)} photos to train on, {len(data.val)} for val, {len(data.labels)} labels.")
    metrics = Trainer(config, data, out).run()
    rich_print(f"Best epoch: {', '.join(f'{name} {value:.4f}' for name, value in metrics.items())}. Saved in {out}.")
    return metrics


def make_config(settings: list[str]) -> TrainConfig:
    """A TrainConfig from `key=value` settings; LabelwiseError names a wrong one."""
    try:
        return TrainConfig.model_validate(_nested(settings))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise LabelwiseError(f"The setting {'.'.join(map(str, first['loc']))}: {first['msg']}.") from error


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
