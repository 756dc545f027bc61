"""One step's loss and gradients for each of some settings, on a process's share of a fixed batch.

As a script it is `labelwise` for one rank of several, which torchrun starts. Before a rank trains, it computes these
for each line of GRADIENTS_OF in the run's folder, settings as JSON. Rank 0 writes them to GRADIENTS there.
"""

from collections.abc import Sequence
from pathlib import Path

import torch

import training.training_run
from commands import main
from training.config import TrainConfig
from training.data.labelled_data import LabelledData
from training.distributed import World
from training.loop import Trainer

GRADIENTS_OF, GRADIENTS = "gradients_of.jsonl", "gradients.pt"


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


def all_gradients(
    data: LabelledData, out: Path, texts: Sequence[str], world: World = World()
) -> list[dict[str, torch.Tensor]]:
    return [gradients(TrainConfig.model_validate_json(text), data, out, world) for text in texts]


class WithGradients(Trainer):
    def run(self) -> dict[str, float]:
        settings = (self.out / GRADIENTS_OF).read_text().splitlines()
        found = all_gradients(self.data, self.out, settings, self.world)
        if self.world.is_main:
            torch.save(found, self.out / GRADIENTS)
        return super().run()


if __name__ == "__main__":
    torch.set_num_threads(1)
    training.training_run.Trainer = WithGradients
    main()
