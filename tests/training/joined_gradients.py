"""One step's loss and gradients for each of some settings, on a process's share of a fixed batch.

As a script it is one rank of several, which test_distributed.py starts. Arguments: data set, folder, settings as JSON.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from training.config import TrainConfig
from training.data.labelled_data import LabelledData
from training.data.layouts import read_data
from training.distributed import World, joined_world
from training.loop import Trainer


def gradients(config: TrainConfig, data: LabelledData, out: Path, world: World) -> dict[str, torch.Tensor]:
    trainer = Trainer(config, data, out, world)
    generator = torch.Generator().manual_seed(3)
    pixels = torch.randint(0, 256, (8, 2, 3, 32, 32), generator=generator, dtype=torch.uint8)
    targets = torch.randint(-1, 2, (8, len(data.labels)), generator=generator).float()
    trainer.model.train()
    for _ in range(2):  # the second time, the memory bank has something in it
        trainer.optimizer.zero_grad()
        parts = trainer._losses_of(pixels[world.rank :: world.size], targets[world.rank :: world.size])
        sum(parts.values()).backward()
    named = [*trainer.model.named_parameters(), *trainer.criterion.named_parameters()]
    found = {name: parameter.grad for name, parameter in named if parameter.grad is not None}
    return found | {name: value.detach() for name, value in parts.items()}


def all_gradients(source: Path, out: Path, texts: Sequence[str], world: World) -> list[dict[str, torch.Tensor]]:
    configs = [TrainConfig.model_validate_json(text) for text in texts]
    return [gradients(config, read_data(source), out, world) for config in configs]


if __name__ == "__main__":
    torch.set_num_threads(1)
    print("ready", flush=True)
    with joined_world() as world:
        all_gradients(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:], world)
