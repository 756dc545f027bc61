"""`labelwise compare`: the paper's claims on one's own labels. Each method, several seeds, one budget, one table."""

import json
import multiprocessing
import os
import statistics
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from matplotlib.figure import Figure
from rich import print as rich_print
from safetensors import safe_open

from labelwise.errors import LabelwiseError
from labelwise.spec import SPEC_FILE, TaggerSpec, write_atomically
from training.checkpoint import HISTORY_FILE, WEIGHTS_FILE
from training.config import TrainConfig
from training.run import RunOptions, train_run
from training.settings import make_config

# Whatever its method, a run has the same epochs, views, batches and schedule; only the head and the loss differ.
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
_METRICS = ("mAP", "CF1", "OF1", "LRAP")
# Claim, the method that makes it, and the one it is measured against.
_CLAIMS = (
    ("contrast on one vector per image", "supcon", "bce"),
    ("an embedding per label", "label-bce", "bce"),
    ("contrast on an embedding per label", "mulcon", "label-bce"),
    ("the whole method", "mulcon", "bce"),
)


@dataclass(frozen=True)
class Run:
    """One finished run of a comparison; `seconds` of training and scoring on the cores it had."""

    method: str
    seed: int
    metrics: dict[str, float]
    seconds: float
    parameters: int


@dataclass(frozen=True)
class Comparison:
    """What to train: `settings` and `preset` as for `labelwise train`, the same for all."""

    source: str
    out: Path
    methods: tuple[str, ...] = METHODS
    seeds: int = 3
    preset: str = "tiny"
    settings: tuple[str, ...] = ()
    options: RunOptions = RunOptions(resume=True, report=False, quiet=True)

    def config(self, method: str, seed: int) -> TrainConfig:
        return make_config([*self.settings, *VARIANTS[method], f"seed={seed}"], self.preset)

    def folder(self, method: str, seed: int) -> Path:
        return self.out / f"{method}-{seed}"


def compare(comparison: Comparison, jobs: int = 1) -> list[Run]:
    """Train what is missing, `jobs` runs at a time on the cores shared between them; write results.{json,md,svg}.

    A comparison that was stopped goes on where it was. Raises LabelwiseError.
    """
    if unknown := [name for name in comparison.methods if name not in VARIANTS]:
        raise LabelwiseError(f"There is no method {', '.join(unknown)}: choose from {', '.join(VARIANTS)}.")
    tasks = [(method, seed) for seed in range(comparison.seeds) for method in comparison.methods]
    for method, seed in tasks:
        comparison.config(method, seed)  # a wrong setting is said now, not an hour later
    threads = max(1, (os.cpu_count() or 1) // jobs)
    runs = []
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), torch.set_num_threads, (threads,)) as pool:
        pending = {pool.submit(_train, comparison, *task) for task in tasks}
        try:
            for future in as_completed(pending):
                runs.append(future.result())
                rich_print(f"{runs[-1].method}, seed {runs[-1].seed}: mAP {runs[-1].metrics['mAP']:.4f}")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    runs.sort(key=lambda run: (comparison.methods.index(run.method), run.seed))
    _write_results(comparison, runs)
    return runs


def _train(comparison: Comparison, method: str, seed: int) -> Run:
    folder = comparison.folder(method, seed)
    metrics = train_run(comparison.source, folder, comparison.config(method, seed), comparison.options)
    history = [json.loads(line) for line in (folder / HISTORY_FILE).read_text(encoding="utf-8").splitlines()]
    with safe_open(folder / WEIGHTS_FILE, "pt") as weights:
        parameters = sum(weights.get_tensor(name).numel() for name in weights.keys())  # noqa: SIM118 - no mapping
    return Run(method, seed, metrics, sum(entry["seconds"] for entry in history), parameters)


def _write_results(comparison: Comparison, runs: list[Run]) -> None:
    content = json.dumps([asdict(run) for run in runs], indent=1)
    write_atomically(comparison.out / "results.json", content.encode())
    write_atomically(comparison.out / "results.md", "\n".join(_report(comparison, runs)).encode())
    _plot(runs).savefig(comparison.out / "results.svg", metadata={"Date": None})


def _report(comparison: Comparison, runs: list[Run]) -> Iterator[str]:
    spec = TaggerSpec.read(comparison.folder(runs[0].method, runs[0].seed) / SPEC_FILE)
    config = comparison.config(runs[0].method, 0)
    yield (
        f"{spec.data.train_images} photos to train on, {spec.data.val_images} for val, {len(spec.labels)} labels; "
        f"preset {comparison.preset}, {config.epochs} + {config.contrastive_epochs} epochs, seeds 0 to "
        f"{comparison.seeds - 1}. Mean ± standard deviation over the seeds, in points of a hundred; val chose epoch "
        "and thresholds, alike for all."
    )
    yield ""
    yield from table(runs)
    yield ""
    yield from claims(runs)
    yield ""


def table(runs: list[Run]) -> Iterator[str]:
    """A Markdown table, a row a method."""
    yield f"| method | {' | '.join(_METRICS)} | training | parameters |"
    yield "|---" * (len(_METRICS) + 3) + "|"
    for method, group in _by_method(runs).items():
        cells = [_mean_and_deviation([100 * run.metrics[name] for run in group]) for name in _METRICS]
        minutes = _mean_and_deviation([run.seconds / 60 for run in group])
        yield f"| {method} | {' | '.join(cells)} | {minutes} min | {group[0].parameters / 1e6:.2f} M |"


def claims(runs: list[Run]) -> Iterator[str]:
    """What each step of the method adds to mAP, seed by seed: the spread between seeds falls out of a difference."""
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


def _plot(runs: list[Run]) -> Figure:
    """Each run a dot, each method's mean a bar across them."""
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
    return figure
