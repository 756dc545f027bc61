"""`labelwise compare`: tests the paper's claims on your labels, with several seeds and one budget per method."""

import io
import json
import shutil
import statistics
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch
from safetensors import safe_open

from labelwise.errors import LabelwiseError
from labelwise.spec import TrainedSpec
from training.backbone import describe_input, describe_start
from training.checkpoint import WEIGHTS_FILE, trained_image, write_file
from training.config import TrainConfig
from training.config_layers import make_config, setting_names
from training.data.labelled_data import LabelledData
from training.data.layouts import read_data
from training.device import threads_of_each
from training.frozen import FEATURES_FOLDER
from training.metrics import HEADLINE
from training.processes import run_all
from training.run_log import read_history
from training.signals import Stopped
from training.speed import settle
from training.training_run import RunOptions, prepare_data, train_run

# All methods have the same epochs, views, batches and schedule. Only head and loss differ.
VARIANTS: dict[str, tuple[str, ...]] = {
    "bce": ("method=bce",),
    "supcon": ("method=supcon",),
    "label-bce": ("method=label-bce",),
    "mulcon": ("method=mulcon",),
    "ml-decoder": ("method=label-bce", "model.head=ml-decoder"),
    "asymmetric": ("method=label-bce", "loss.classification=asymmetric"),
    "mulcon+queries": ("method=mulcon", "model.queries=classifier"),
    "mulcon+negatives": ("method=mulcon", "loss.absent_negatives=64"),
    "mulcon+memory": ("method=mulcon", "loss.memory=32", "loss.prototype_weight=0.1"),
}
METHODS = ("bce", "supcon", "label-bce", "mulcon")

_AGAIN = "make room or repair the folder, then give the same command again: nothing is trained twice"
# A claim, its method, and the method that it is measured against.
_CLAIMS = (
    ("contrast on one vector per image", "supcon", "bce"),
    ("an embedding per label", "label-bce", "bce"),
    ("contrast on an embedding per label", "mulcon", "label-bce"),
    ("the whole method", "mulcon", "bce"),
    ("queries from the pretrained classifier", "mulcon+queries", "mulcon"),
)


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
    background: Path | None = None
    options: RunOptions = RunOptions(resume=True, report=False, quiet=True)

    def config(self, method: str, seed: int) -> TrainConfig:
        settings = [*self.settings, *VARIANTS[method], f"seed={seed}"]
        return make_config(settings, self.preset, kept=trained_image(self.folder(method, seed)))

    @property
    def features(self) -> Path:
        """Where the runs share what a frozen backbone computes."""
        return self.out / FEATURES_FOLDER

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

    def check_data(self) -> LabelledData:
        """Print how the data is read and what is left out, with the splits of seed 0. Raises DataError."""
        config = self.config(self.methods[0], 0)
        return prepare_data(
            read_data(self.source, config.seed, self.background),
            config.model_copy(update={"cache": "none"}),
            self.options,
        )

    def settled(self, labels: int) -> tuple["Comparison", str]:
        """With one precision and memory format for all runs, and a line for the user; see `training.speed.settle`."""
        tasks = self.tasks()
        config, said = settle(self.config(*tasks[0]), labels, [self.folder(*task) for task in tasks])
        chosen = (f"precision={config.precision}", f"memory_format={config.memory_format}")
        return replace(self, settings=(*self.settings, *chosen)), said

    def train(self, task: tuple[str, int], threads: int | None = None) -> Run:
        """Train one of `tasks`, or the rest of it, with this number of torch's threads instead of its own."""
        if threads:
            torch.set_num_threads(threads)
        folder = self.folder(*task)
        options = replace(self.options, features=self.features)
        metrics = train_run(self.source, folder, self.config(*task), options, self.background)
        seconds = read_history(folder).seconds
        with safe_open(folder / WEIGHTS_FILE, "pt") as weights:
            parameters = sum(weights.get_tensor(name).numel() for name in weights.keys())  # noqa: SIM118 - not a mapping
        return Run(*task, metrics, seconds, parameters)


def compare(comparison: Comparison, jobs: int = 1) -> list[Run]:
    """Train what is missing, `jobs` runs at a time on the cores shared between them; write results.{json,md,svg}.

    Checks and describes the data first; the runs are quiet. A comparison that was stopped continues where it was.
    Raises Stopped on Ctrl-C and SIGTERM, and LabelwiseError.
    """
    tasks, threads = comparison.tasks(), threads_of_each(jobs)
    labels = comparison.check_data().labels
    runs: list[Run] = []
    config = comparison.config(*tasks[0])
    print(describe_start(config.model), describe_input(config), sep="\n", flush=True)
    comparison, computing = comparison.settled(len(labels))
    print(computing, flush=True)

    def keep(run: Run) -> None:
        runs.append(run)
        said = f"{run.method}, seed {run.seed}: mAP {run.metrics['mAP']:.4f} after {run.seconds / 60:.1f} min"
        print(f"{len(runs)} of {len(tasks)}: {said}", flush=True)

    try:
        run_all(partial(comparison.train, threads=threads), tasks, jobs, keep)
    except Stopped as stopped:
        raise Stopped("Stopped: run the same command again to continue.") from stopped
    shutil.rmtree(comparison.features, ignore_errors=True)  # a stopped comparison goes on with them
    runs.sort(key=lambda run: (comparison.methods.index(run.method), run.seed))
    write_results(comparison, runs, cores_used(jobs, threads))
    return runs


def cores_used(jobs: int, threads: int) -> str:
    return f"{jobs} run{'s' * (jobs > 1)} at a time, {threads} thread{'s' * (threads > 1)} each"


def write_results(comparison: Comparison, runs: list[Run], cores: str) -> None:
    """Write the outcome of `runs` into the comparison's folder. `cores` says on what the times were measured."""
    contents = {
        "results.json": json.dumps([asdict(run) for run in runs], indent=1).encode(),
        "results.md": "\n".join(_report(comparison, runs, cores)).encode(),
        "results.svg": _plot(runs),
    }
    for name, content in contents.items():
        write_file(comparison.out / name, content, _AGAIN)


def _report(comparison: Comparison, runs: list[Run], cores: str) -> Iterator[str]:
    spec = TrainedSpec.read(comparison.folder(runs[0].method, runs[0].seed))
    config = comparison.config(runs[0].method, 0)
    yield (
        f"{spec.data.train_images} photos to train on, {spec.data.val_images} for val, {len(spec.labels)} labels; "
        f"preset {comparison.preset}, {config.epochs} + {config.contrastive_epochs} epochs, seeds 0 to "
        f"{comparison.seeds - 1}. Mean ± standard deviation over the seeds, in points of a hundred. For all "
        f"methods, the epoch and the thresholds were chosen on val. {cores}."
    )
    if config.model.freeze:
        yield (
            f"The backbone {config.model.backbone} is frozen: its features of {config.augment.frozen_views} views per "
            "photo were computed once for all runs, and that time is not in the table."
        )
    yield ""
    yield from table(runs)
    yield ""
    yield from claims(runs)
    yield ""


def table(runs: list[Run]) -> Iterator[str]:
    """A Markdown table with a row per method."""
    yield f"| method | {' | '.join(HEADLINE)} | training | parameters |"
    yield "|---" * (len(HEADLINE) + 3) + "|"
    for method, group in _by_method(runs).items():
        cells = [_cell(group, name) for name in HEADLINE]
        minutes = _mean_and_deviation([run.seconds / 60 for run in group])
        yield f"| {method} | {' | '.join(cells)} | {minutes} min | {group[0].parameters / 1e6:.2f} M |"


def _cell(group: list[Run], name: str) -> str:
    """A dash if val does not define the metric: LRAP needs photos whose labels are all known."""
    values = [100 * run.metrics[name] for run in group if name in run.metrics]
    return _mean_and_deviation(values) if len(values) == len(group) else "–"


def claims(runs: list[Run]) -> Iterator[str]:
    """What each step of the method adds to mAP, seed by seed, which cancels the spread between seeds."""
    groups = _by_method(runs)
    for what, method, against in _CLAIMS:
        if method in groups and against in groups:
            pairs = zip(groups[method], groups[against], strict=True)
            gains = [100 * (run.metrics["mAP"] - other.metrics["mAP"]) for run, other in pairs]
            better = sum(gain > 0 for gain in gains)
            yield (
                f"- {what} ({method} − {against}): {_mean_and_deviation(gains, '+')} points of mAP, better with "
                f"{better} of {len(gains)} seeds"
            )


def _by_method(runs: Iterable[Run]) -> dict[str, list[Run]]:
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.method, []).append(run)
    return groups


def _mean_and_deviation(values: list[float], sign: str = "") -> str:
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):{sign}.2f} ± {spread:.2f}"


def _plot(runs: list[Run]) -> bytes:
    """An SVG with a dot per run, and a bar at the mean of each method."""
    from matplotlib.figure import Figure  # every training process imports this module

    groups = _by_method(runs)
    figure = Figure(figsize=(7, 0.6 + 0.5 * len(groups)), layout="constrained")
    axes = figure.subplots()
    for row, group in enumerate(groups.values()):
        values = [100 * run.metrics["mAP"] for run in group]
        axes.plot(values, [row] * len(values), "o", color="tab:blue", alpha=0.6)
        axes.plot([statistics.mean(values)] * 2, [row - 0.3, row + 0.3], color="tab:red")
    axes.set_yticks(range(len(groups)), list(groups))
    axes.invert_yaxis()
    axes.set_xlabel("mAP on val (dots: seeds, bar: mean)")
    axes.grid(axis="x", alpha=0.3)
    picture = io.BytesIO()
    figure.savefig(picture, format="svg", metadata={"Date": None})
    return picture.getvalue()
