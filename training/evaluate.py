"""`labelwise evaluate`: measures a trained run or an exported repository on labelled photos, label by label."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from rich.markup import escape
from rich.table import Table

from labelwise.errors import DataError, LabelwiseError
from labelwise.label_names import some
from labelwise.repository import Repository, default_tagger
from labelwise.spec import SPEC_FILE, TrainedSpec
from labelwise.tagging import judge
from training.checkpoint import WEIGHTS_FILE, load_checkpoint, write_file
from training.data.eval_batches import EvalBatches
from training.data.labelled_data import PRESENT, LabelledData, LabelledPhotos
from training.data.layouts import read_as_trained
from training.data.photo_check import check_photos
from training.device import pick_device
from training.evaluator import EVAL_BATCH, expected_calibration_error, predict, sigmoid
from training.metrics import (
    AT_HALF,
    AT_TOP_3,
    FALSE_ALARM_SHARE,
    PHOTOS_WITHOUT_LABELS,
    TAG_METRICS,
    Objective,
    average_precisions,
    evaluate,
    f1_score,
    fit_thresholds,
    label_counts,
    parse_objective,
)

_OF_NO_THRESHOLD = ("temperature", "ECE_uncalibrated")  # metrics that only training measures

Scoring = Callable[[LabelledPhotos], NDArray[np.float32]]  # n photos -> scores [n, l]


@dataclass(frozen=True)
class LabelScore:
    """One label at its threshold. Values that a label without a present photo cannot have are None."""

    label: str
    photos: int
    average_precision: float | None
    precision: float
    recall: float | None
    f1: float | None
    threshold: float


@dataclass(frozen=True)
class Evaluation:
    """`metrics` as in training.metrics.evaluate, with ECE; `labels` in the tagger's order."""

    split: str
    photos: int
    metrics: dict[str, float]
    labels: list[LabelScore]


def evaluate_tagger(
    source: Path,
    data: str | Path,
    split: str | None = None,
    thresholds: str | None = None,
    write: bool = False,
    skip_broken: bool = False,
    background: Path | None = None,
    model: str | None = None,
    precision: str | None = None,
) -> Evaluation:
    """Score a run, or a tagger of a repository, on `split` (train, val or all) of `data`. Raises LabelwiseError.

    The tagger is `model`, or that of `default_tagger`. Without `split` it is val, or train if there is no val. The
    photos of `background`, which have none of the labels, join `data` and its splits, as for training.
    Uses the tagger's own thresholds. If `thresholds` names an objective, fits new ones on these photos; `write` then
    stores them, and the metrics at them, in the run's tagger.json.
    """
    is_run = (source / SPEC_FILE).is_file() and (source / WEIGHTS_FILE).is_file()
    objective = _objective(thresholds)
    if write:
        _check_writable(is_run, objective, source)
    open_tagger = _open_run if is_run else _open_repository
    spec, score = open_tagger(source, model, precision)
    labelled = check_photos(read_as_trained(data, spec, background), skip_broken=skip_broken)
    if surplus := [label for label in labelled.labels if label not in spec.labels]:
        print(f"Left out, because the tagger does not know them: the labels {some(surplus)}.", flush=True)
    split = split or ("val" if len(labelled.val) else "train")
    parts = _choose(labelled, split, spec.labels, data)
    if write and split != "val" and labelled.describe().fingerprint == spec.data.fingerprint:
        raise LabelwiseError(f"{source} was trained on {split} of this data: thresholds to write are fitted on val.")
    scores = np.concatenate([score(part) for part in parts])
    targets = np.concatenate([part.targets for part in parts])
    if objective:
        fitted = fit_thresholds(scores, targets, objective)
        spec = spec.changed(thresholds=tuple(map(float, fitted)))
    evaluation = _measure(spec, scores, targets, split)
    if write:
        kept = {name: spec.metrics[name] for name in _OF_NO_THRESHOLD if name in spec.metrics}
        spec.changed(metrics=kept | evaluation.metrics).write(source)
    return evaluation


def write_json(evaluation: Evaluation, file: Path) -> None:
    text = json.dumps(asdict(evaluation), indent=2, ensure_ascii=False, allow_nan=False)
    write_file(file, f"{text}\n".encode(), "choose another file")


def _objective(text: str | None) -> Objective | None:
    try:
        return None if text is None else parse_objective(text)
    except ValueError as error:
        raise LabelwiseError(f"The thresholds: {error}.") from error


def _check_writable(is_run: bool, objective: Objective | None, source: Path) -> None:
    if objective is None:
        raise LabelwiseError("Only newly fitted thresholds can be written: add --thresholds, for example f1.")
    if not is_run:
        raise LabelwiseError(
            f"{source} is not a run, and published versions never change: write into the run, then export it again."
        )


def _choose(data: LabelledData, split: str, labels: tuple[str, ...], source: str | Path) -> list[LabelledPhotos]:
    """The photos of `split` with targets for `labels`, in this order. Leaves out other labels of the data."""
    missing = [label for label in labels if label not in data.labels]
    data = data.with_labels(labels)
    if missing:
        print(f"Not measured, because the data does not have them: the labels {some(missing)}.", flush=True)
    parts = {"train": [data.train], "val": [data.val], "all": [data.train, data.val]}[split]
    parts = [part for part in parts if len(part)]
    if not parts:
        raise DataError(f"{source} has no photo of {split}: leave out --split to measure all that it has.")
    if not any((part.targets == PRESENT).any() for part in parts):
        raise DataError(f"{source} has no label of the tagger present in {split}, so nothing can be scored.")
    return parts


def _open_run(run: Path, model: str | None, precision: str | None) -> tuple[TrainedSpec, Scoring]:
    for option, value in (("--model", model), ("--precision", precision)):
        if value is not None:
            raise LabelwiseError(
                f"{run} is a run, which is one tagger: leave out {option}, or give a model repository."
            )
    tagger, spec = load_checkpoint(run)
    tagger = tagger.to(pick_device("auto"))
    return spec, lambda photos: sigmoid(predict(tagger, EvalBatches(photos, spec.image, EVAL_BATCH, cache="none")))


def _open_repository(path: Path, model: str | None, precision: str | None) -> tuple[TrainedSpec, Scoring]:
    taggers = Repository.open(path).taggers
    name = default_tagger(taggers, model)
    if name is None:
        raise LabelwiseError(f"{path} holds the taggers {', '.join(taggers)}: choose one with --model.")
    versions = taggers[name]
    version = versions[max(versions)]
    if precision is not None:
        graphs = {graph.precision: graph for graph in version.spec.graphs}
        if precision not in graphs:
            raise LabelwiseError(f"{name} version {version.spec.version} has no {precision}: leave out --precision.")
        version = version.with_graph(graphs[precision])
    session = ort.InferenceSession(version.weights, providers=["CPUExecutionProvider"])
    size = min(EVAL_BATCH, version.spec.max_batch)

    def score(photos: LabelledPhotos) -> NDArray[np.float32]:
        batches = EvalBatches(photos, version.spec.image, size, cache="none")
        return np.concatenate([session.run(["scores"], {version.spec.input.name: batch})[0] for batch in batches])

    return version.spec, score


def _measure(spec: TrainedSpec, scores: NDArray[np.float32], targets: NDArray[np.float32], split: str) -> Evaluation:
    thresholds = np.array(spec.thresholds)
    metrics = evaluate(scores, targets, thresholds) | {"ECE": expected_calibration_error(scores, targets)}
    counts = zip(*label_counts(judge(scores, thresholds)[1], targets), strict=True)
    precisions = average_precisions(scores, targets)
    rows = zip(spec.labels, precisions, counts, spec.thresholds, strict=True)
    return Evaluation(split, len(scores), metrics, [_label_score(*row) for row in rows])


def _label_score(
    label: str, average_precision: float, counts: tuple[np.int64, np.int64, np.int64], threshold: float
) -> LabelScore:
    hits, predicted, present = map(int, counts)
    precision = hits / max(predicted, 1)
    if not present:
        return LabelScore(label, 0, None, precision, None, None, threshold)
    recall = hits / present
    f1 = f1_score(precision, recall)
    return LabelScore(label, present, float(average_precision), precision, recall, f1, threshold)


def label_table(evaluation: Evaluation) -> Table:
    table = Table("label", "photos", "AP", "precision", "recall", "F1", "threshold")
    for row in evaluation.labels:
        values = (row.average_precision, row.precision, row.recall, row.f1, row.threshold)
        table.add_row(escape(row.label), str(row.photos), *map(_number, values))
    return table


def metric_table(evaluation: Evaluation) -> Table:
    """The metrics that depend on what counts as a tag."""
    table = Table("", "at the thresholds", "at 0.5", "top 3")
    for name in TAG_METRICS:
        table.add_row(name, *(_number(evaluation.metrics.get(name + suffix)) for suffix in ("", AT_HALF, AT_TOP_3)))
    return table


def headline(evaluation: Evaluation) -> str:
    """The number of photos, and the metrics that are not in `metric_table`."""
    others = {name: value for name, value in evaluation.metrics.items() if name.partition("@")[0] not in TAG_METRICS}
    photos = f"{evaluation.photos} photos ({evaluation.split})"
    without = others.pop(PHOTOS_WITHOUT_LABELS, None)
    shown = {name: f"{name} {value:.4f}" for name, value in others.items()}
    if without is not None:
        shown[FALSE_ALARM_SHARE] += f" (of {without:.0f} photos with none of the labels)"
    return "  ".join([photos, *shown.values()])


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
