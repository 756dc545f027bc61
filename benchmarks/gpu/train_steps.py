"""One network in one precision, trained for some steps by the trainer of `labelwise train`.

    python -m benchmarks.gpu.train_steps FOLDER NETWORK PRECISION [--compile] [--whole]

Repeats the trainer's step on one batch, which says what the device can do; the first steps are not counted. With
--whole it also runs two epochs as `labelwise train` does, and prints the rate of the second: that includes reading and
augmenting the pictures. They are drawn, and FOLDER keeps them.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.gpu.memory import note_memory
from benchmarks.gpu.tasks import emit
from labelwise.cores import usable_cores
from labelwise.spec import ImageSpec
from training.checkpoint import HISTORY_FILE
from training.config import ModelConfig, TrainConfig
from training.data.labelled_data import LabelledData
from training.data.layouts import read_data
from training.loop import Trainer
from training.synth import draw_dataset
from training.training_run import RunOptions, prepare_data

# Side of the pictures, feature level, batch on a GPU. `test_resnet` is for a smoke test on a CPU.
NETWORKS = {"resnet50": (224, 4, 128), "tf_efficientnet_lite0": (224, 4, 128), "test_resnet": (32, 2, 4)}
_WARMING, _STEPS, _LEAST_SECONDS = 5, 20, 3.0
_LABELS = 6
_EPOCHS = 1000  # the schedule of the steps must not come to its end


def config_of(network: str, precision: str, is_compiled: bool) -> TrainConfig:
    side, level, batch = NETWORKS[network]
    return TrainConfig(
        model=ModelConfig(backbone=network, feature_level=level),
        image=ImageSpec(height=side, width=side),
        batch_size=batch,
        epochs=_EPOCHS,
        contrastive_epochs=0,
        precision=precision,
        compile=is_compiled,
        workers=max(0, usable_cores() - 1) if torch.cuda.is_available() else 0,
    )


def pictures(folder: Path, config: TrainConfig) -> LabelledData:
    """Draws them the first time: nine batches to train on, and some for val."""
    source = folder / f"drawn-{config.image.height}"
    if not source.exists():
        draw_dataset(source, max(30, 12 * config.batch_size), labels=_LABELS, side=config.image.height)
    return prepare_data(read_data(source, config.seed), config, RunOptions(), quiet=True)


def step_rate(trainer: Trainer) -> float:
    """Returns images per second of the steps alone."""
    trainer.model.train()
    batch = next(iter(trainer._loader.epoch(0, 1)))

    def seconds_of(steps: int) -> float:
        started = time.perf_counter()
        for _ in range(steps):
            trainer._step(batch)  # it reads the loss at its end, so it waits for the device
        return time.perf_counter() - started

    seconds_of(_WARMING if trainer.device.type == "cuda" else 1)
    steps, seconds = 0, 0.0
    while not steps or (seconds < _LEAST_SECONDS and trainer.device.type == "cuda"):
        seconds += seconds_of(_STEPS if trainer.device.type == "cuda" else 2)
        steps += _STEPS if trainer.device.type == "cuda" else 2
    return steps * len(batch[1]) / seconds


def whole_rate(config: TrainConfig, data: LabelledData, out: Path) -> float:
    """Returns images per second of the second epoch; in the first one, the workers start."""
    Trainer(config.model_copy(update={"epochs": 2}), data, out, quiet=True).run()
    return float(json.loads((out / HISTORY_FILE).read_text().splitlines()[-1])["images_per_second"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("precision", choices=("fp32", "bf16", "fp16"))
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--whole", action="store_true")
    arguments = parser.parse_args()
    config = config_of(arguments.network, arguments.precision, arguments.compile)
    data = pictures(arguments.folder, config)
    facts = {"network": arguments.network, "precision": arguments.precision, "compiled": arguments.compile}
    facts |= {"device": "cuda" if torch.cuda.is_available() else "cpu", "batch": config.batch_size}
    with tempfile.TemporaryDirectory(dir=arguments.folder) as run:
        out = Path(run)
        trainer = Trainer(config, data, out, quiet=True)
        emit("training", **facts, what="steps", images_per_second=step_rate(trainer))
        what = f"training, {arguments.network}, {arguments.precision}{', compiled' * arguments.compile}"
        note_memory(what, [os.getpid()])
        del trainer
        if arguments.whole:
            rate = whole_rate(config, data, out)
            emit("training", **facts, what="whole, with reading and augmenting", images_per_second=rate)


if __name__ == "__main__":
    main()
