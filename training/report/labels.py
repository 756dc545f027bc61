"""The table of labels, and the calibration of the scores."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labelwise.spec import TrainedSpec
from labelwise.tagging import judge
from training.data.labelled_data import PRESENT, LabelledData
from training.evaluator import expected_calibration_error
from training.metrics import average_precisions, label_counts

_BINS = 10


@dataclass(frozen=True)
class LabelRow:
    """One label on val at its threshold. Undefined values, such as the AP without photos, are NaN."""

    index: int
    label: str
    train_support: int
    val_support: int
    val_unknown: int
    average_precision: float
    precision: float
    recall: float
    f1: float
    threshold: float

    @property
    def has_curve(self) -> bool:
        return not math.isnan(self.average_precision)


def label_rows(spec: TrainedSpec, data: LabelledData, scores: NDArray[np.float32]) -> list[LabelRow]:
    """`scores` [n, l] of val. Unknown targets count only in `val_unknown`."""
    targets = data.val.targets
    hits, tagged, present = label_counts(judge(scores, np.array(spec.thresholds))[1], targets)
    precisions = average_precisions(scores, targets)
    return [
        LabelRow(
            index=index,
            label=label,
            train_support=int((data.train.targets[:, index] == PRESENT).sum()),
            val_support=int(present[index]),
            val_unknown=int((targets[:, index] < 0).sum()),
            average_precision=float(precisions[index]),
            precision=_share(hits[index], tagged[index]),
            recall=_share(hits[index], present[index]),
            f1=_share(2 * hits[index], tagged[index] + present[index]),
            threshold=spec.thresholds[index],
        )
        for index, label in enumerate(spec.labels)
    ]


def _share(part: int, whole: int) -> float:
    return float(part / whole) if whole else math.nan


@dataclass(frozen=True)
class Calibration:
    """Bins of the scores of all labels; `error` is the expected calibration error."""

    mean_score: list[float]
    frequency: list[float]
    edges: list[float]
    counts: list[int]
    error: float


def calibration(scores: NDArray[np.float32], targets: NDArray[np.float32]) -> Calibration:
    """`scores` and `targets` [n, l] in bins of equal width; `mean_score` and `frequency` leave out empty bins."""
    known = targets >= 0
    values, present = scores[known], targets[known] == PRESENT
    edges = np.linspace(0, 1, _BINS + 1)
    bins = np.digitize(values, edges[1:-1])
    counts = np.bincount(bins, minlength=_BINS)
    filled = counts > 0
    mean_score = np.bincount(bins, values, _BINS)[filled] / counts[filled]
    frequency = np.bincount(bins, present, _BINS)[filled] / counts[filled]
    error = expected_calibration_error(scores, targets, _BINS)
    return Calibration(mean_score.tolist(), frequency.tolist(), edges.tolist(), counts.tolist(), error)
