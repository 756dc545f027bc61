"""What a comparison trains: the methods, and the settings and folder of each run."""

from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open

from labelwise.errors import LabelwiseError
from labelwise.spec import TrainedSpec
from training.checkpoint import WEIGHTS_FILE, trained_image
from training.config import TrainConfig
from training.config_layers import make_config, setting_names
from training.data import read_data
from training.report.history import read_history
from training.training_run import RunOptions, prepare_data, train_run

# All methods have the same epochs, views, batches and schedule. Only head and loss differ.
VARIANTS: dict[str, tuple[str, ...]] = {
    "bce": ("method=bce",),
    "supcon": ("method=supcon",),
    "label-bce": ("method=label-bce",),
    "mulcon": ("method=mulcon",),
    "ml-decoder": ("method=label-bce", "model.head=ml-decoder"),
    "asymmetric": ("method=label-bce", "loss.classification=asymmetric"),
    "mulcon+negatives": ("method=mulcon", "loss.absent_negatives=64"),
    "mulcon+memory": ("method=mulcon", "loss.memory=32", "loss.prototype_weight=0.1"),
}
METHODS = ("bce", "supcon", "label-bce", "mulcon")


@dataclass(frozen=True)
class Run:
    """One finished run of a comparison; `seconds` is the time for training and scoring."""

    method: str
    seed: int
    metrics: dict[str, float]
    seconds: float
    parameters: int


@dataclass(frozen=True)
class Comparison:
    """What to train. `settings` and `preset` are those of `labelwise train`, and the same for all runs."""

    source: str
    out: Path
    methods: tuple[str, ...] = METHODS
    seeds: int = 3
    preset: str = "tiny"
    settings: tuple[str, ...] = ()
    options: RunOptions = RunOptions(resume=True, report=False, quiet=True)

    def config(self, method: str, seed: int) -> TrainConfig:
        settings = [*self.settings, *VARIANTS[method], f"seed={seed}"]
        return make_config(settings, self.preset, kept=trained_image(self.folder(method, seed)))

    def folder(self, method: str, seed: int) -> Path:
        return self.out / f"{method}-{seed}"

    def tasks(self) -> list[tuple[str, int]]:
        """Method and seed of every run. Raises LabelwiseError for a wrong method or setting, before any training."""
        if unknown := [name for name in self.methods if name not in VARIANTS]:
            raise LabelwiseError(f"There is no method {', '.join(unknown)}: choose from {', '.join(VARIANTS)}.")
        if not self.methods:
            raise LabelwiseError(f"Name a method to train: choose from {', '.join(VARIANTS)}.")
        varied = [pair.partition("=")[0] for name in self.methods for pair in VARIANTS[name]]
        for key in setting_names([*self.settings]):
            if key in ("seed", *varied):
                option = "--seeds" if key == "seed" else "--methods"
                raise LabelwiseError(f"The setting {key} differs from run to run here: leave it to {option}.")
        tasks = [(method, seed) for seed in range(self.seeds) for method in dict.fromkeys(self.methods)]
        for method, seed in tasks:
            self.config(method, seed)
        return tasks

    def check_data(self) -> None:
        """Print how the data is read and what is left out, with the splits of seed 0. Raises DataError."""
        config = self.config(self.methods[0], 0)
        prepare_data(read_data(self.source, config.seed), config.model_copy(update={"cache": "none"}), self.options)

    def train(self, task: tuple[str, int]) -> Run:
        """Train one of `tasks`, or the rest of it."""
        folder = self.folder(*task)
        metrics = train_run(self.source, folder, self.config(*task), self.options)
        seconds = read_history(folder, TrainedSpec.read(folder)).seconds
        with safe_open(folder / WEIGHTS_FILE, "pt") as weights:
            parameters = sum(weights.get_tensor(name).numel() for name in weights.keys())  # noqa: SIM118 - not a mapping
        return Run(*task, metrics, seconds, parameters)
