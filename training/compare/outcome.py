"""Writes the outcome of a comparison: results.json with every number, results.md with table and claims, results.svg."""

import io
import json
import statistics
from collections.abc import Iterable, Iterator
from dataclasses import asdict

from labelwise.files import write_atomically
from labelwise.spec import TrainedSpec
from training.compare.runs import Comparison, Run
from training.writing import explained

_AGAIN = "make room or repair the folder, then give the same command again: nothing is trained twice"
_METRICS = ("mAP", "CF1", "OF1", "LRAP")
# A claim, its method, and the method that it is measured against.
_CLAIMS = (
    ("contrast on one vector per image", "supcon", "bce"),
    ("an embedding per label", "label-bce", "bce"),
    ("contrast on an embedding per label", "mulcon", "label-bce"),
    ("the whole method", "mulcon", "bce"),
)


def write_results(comparison: Comparison, runs: list[Run], cores: str) -> None:
    """Write the outcome of `runs` into the comparison's folder. `cores` says on what the times were measured."""
    contents = {
        "results.json": json.dumps([asdict(run) for run in runs], indent=1).encode(),
        "results.md": "\n".join(_report(comparison, runs, cores)).encode(),
        "results.svg": _plot(runs),
    }
    for name, content in contents.items():
        with explained(comparison.out / name, _AGAIN):
            write_atomically(comparison.out / name, content)


def _report(comparison: Comparison, runs: list[Run], cores: str) -> Iterator[str]:
    spec = TrainedSpec.read(comparison.folder(runs[0].method, runs[0].seed))
    config = comparison.config(runs[0].method, 0)
    yield (
        f"{spec.data.train_images} photos to train on, {spec.data.val_images} for val, {len(spec.labels)} labels; "
        f"preset {comparison.preset}, {config.epochs} + {config.contrastive_epochs} epochs, seeds 0 to "
        f"{comparison.seeds - 1}. Mean ± standard deviation over the seeds, in points of a hundred; val chose epoch "
        f"and thresholds, alike for all. {cores}."
    )
    yield ""
    yield from table(runs)
    yield ""
    yield from claims(runs)
    yield ""


def table(runs: list[Run]) -> Iterator[str]:
    """A Markdown table with a row per method."""
    yield f"| method | {' | '.join(_METRICS)} | training | parameters |"
    yield "|---" * (len(_METRICS) + 3) + "|"
    for method, group in _by_method(runs).items():
        cells = [_cell(group, name) for name in _METRICS]
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
