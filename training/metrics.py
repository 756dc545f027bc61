"""The metrics of a tagger, and the thresholds that turn its scores into tags.

Targets are 1 present, 0 absent, below 0 unknown; unknown cells never count. Scores become tags by the rule
of serving (labelwise.tagging). A label without a known positive has no average precision and no recall: it is left out
of every mean over labels (mAP, CP, CR and so CF1), but tags of it that are known to be wrong do count in what pools all
decisions (OP, hamming). A label that is never predicted has precision 0, as in the authors' code.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from labelwise.tagging import judge

ScoreMatrix = NDArray[np.float32]  # [n, l], 0..1
Counts = NDArray[np.int64]  # [l]
Targets = NDArray[np.float32]  # [n, l], 1 present, 0 absent, below 0 unknown

HEADLINE = ("mAP", "CF1", "OF1", "LRAP")
TAG_METRICS = ("CP", "CR", "CF1", "OP", "OR", "OF1")
AT_HALF, AT_TOP_3 = "@0.5", "@top3"
FALSE_ALARM_SHARE, PHOTOS_WITHOUT_LABELS = "false_alarm_share", "photos_without_labels"

_DEFAULT_THRESHOLD = 0.5
_DIGITS = 7  # of a threshold: one more than serving's scores have, as it lies between two of them
_ENOUGH = 10  # known positives for a threshold of a label's own


@dataclass(frozen=True)
class Objective:
    """What a threshold is fitted for: the best F1, or precision or recall of at least `value`."""

    goal: Literal["f1", "precision", "recall"] = "f1"
    value: float = 0.0


BEST_F1 = Objective()


def parse_objective(text: str) -> Objective:
    """`f1`, `precision=P` or `recall=R` with 0 < P, R <= 1. Raises ValueError."""
    if text == "f1":
        return BEST_F1
    goal, _, number = text.partition("=")
    try:
        value = float(number)
    except ValueError:
        value = 0.0
    if goal not in ("precision", "recall") or not 0 < value <= 1:
        raise ValueError(f"{text!r} is not f1, precision=0.9 or recall=0.9 (any share above 0 and up to 1)")
    return Objective(goal, value)


def evaluate(scores: ScoreMatrix, targets: Targets, thresholds: NDArray[np.float64]) -> dict[str, float]:
    """The metrics of the field, each 0..1 except coverage and a count. Leaves out what the data does not define.

    mAP: the mean of `average_precisions`.
    CP, CR, CF1: the means over labels of precision and of recall, and the F1 of these two means.
    OP, OR, OF1: precision, recall and F1 of all decisions pooled.
    These six are at `thresholds` [l]; with `@0.5` at 0.5 for every label; with `@top3` only the three highest scores of
    an image that also reach 0.5, as in the code of ML-GCN and MulCon (so with up to three labels the same as `@0.5`; of
    equal scores the first label wins; unknown labels have no rank). Unlike in that code, a label that is never
    predicted adds nothing to OP's denominator.
    hamming: the share of decisions at `thresholds` that are wrong.
    false_alarm_share: of the images that are known to have none of the labels, the share with a tag at `thresholds`;
    photos_without_labels: the number of these images.
    LRAP, coverage: label-ranking average precision, and the rank of an image's lowest present label (Tsoumakas et al.
    2010; scikit-learn's definitions, in which an image without a label counts 1 and 0). Both are means over the images
    whose labels are all known.
    """
    known = targets >= 0
    values, predicted = judge(scores, thresholds)
    at_half = values >= _DEFAULT_THRESHOLD
    metrics = {
        "mAP": _mean_defined(average_precisions(scores, targets)),
        **_tag_metrics(predicted, targets, ""),
        **_ranking_metrics(scores[known.all(axis=1)], targets[known.all(axis=1)]),
        "hamming": _mean_defined((predicted != (targets == 1))[known]),
        **_false_alarms(predicted, targets),
        **_tag_metrics(at_half, targets, AT_HALF),
        **_tag_metrics(_top_3(values, known) & at_half, targets, AT_TOP_3),
    }
    return {name: value for name, value in metrics.items() if np.isfinite(value)}


def average_precisions(scores: ScoreMatrix, targets: Targets) -> NDArray[np.float64]:
    """Average precision per label [l] over the images where it is known; NaN if no image has it.

    Not interpolated: the mean, over the images with the label, of the precision among all images that score at least as
    high. So equal scores share the last of their ranks, as in scikit-learn. The authors' code differs only there: it
    ranks equal scores in the order of its sort.
    """
    columns = zip(scores.T, targets.T, strict=True)
    return np.array([_average_precision(column[known >= 0], known[known >= 0] == 1) for column, known in columns])


def label_counts(predicted: NDArray[np.bool_], targets: Targets) -> tuple[Counts, Counts, Counts]:
    """predicted, targets [n, l] -> per label [l]: hits, predicted and present, among the images where it is known."""
    known, present = targets >= 0, targets == 1
    return (predicted & present).sum(axis=0), (predicted & known).sum(axis=0), present.sum(axis=0)


def fit_thresholds(scores: ScoreMatrix, targets: Targets, objective: Objective = BEST_F1) -> NDArray[np.float64]:
    """Per label [l] the threshold with the best `objective` on these images.

    f1: the highest F1. precision=p: the lowest threshold with precision of at least p, so with the highest recall; if
    there is none, that with the highest precision. recall=r: the highest threshold with recall of at least r. Each lies
    midway between the two scores it separates, as serving rounds them.

    A label with fewer than 10 known positives takes the threshold with the best objective over the decisions of all
    labels, since its own would fit these images and no others. A label without any takes 0.5.
    """
    values = judge(scores, _DEFAULT_THRESHOLD)[0]
    shared = _fit_threshold(values.ravel(), targets.ravel(), objective)
    thresholds = np.full(values.shape[1], shared)
    for label, positives in enumerate((targets == 1).sum(axis=0)):
        if not positives:
            thresholds[label] = _DEFAULT_THRESHOLD
        elif positives >= _ENOUGH:
            thresholds[label] = _fit_threshold(values[:, label], targets[:, label], objective)
    return thresholds


def f1_score(precision: float, recall: float) -> float:
    """Their harmonic mean; 0 if both are 0."""
    return float(2 * precision * recall / max(precision + recall, 1e-12))


def _average_precision(scores: ScoreMatrix, present: NDArray[np.bool_]) -> float:
    order = np.argsort(-scores, kind="stable")
    scores, present = scores[order], present[order]
    ranks = np.searchsorted(-scores, -scores, side="right")  # the number that score at least as high
    precision = np.cumsum(present)[ranks - 1] / ranks
    return _mean_defined(precision[present])


def _tag_metrics(predicted: NDArray[np.bool_], targets: Targets, suffix: str) -> dict[str, float]:
    hits, tagged, present = label_counts(predicted, targets)
    counted = present > 0
    precision = _mean_defined((hits / np.maximum(tagged, 1))[counted])
    recall = _mean_defined(hits[counted] / present[counted])
    pooled_precision = hits.sum() / max(tagged.sum(), 1)
    pooled_recall = hits.sum() / present.sum() if counted.any() else np.nan
    values = (
        *(precision, recall, f1_score(precision, recall)),
        *(pooled_precision, pooled_recall, f1_score(pooled_precision, pooled_recall)),
    )
    return {name + suffix: float(value) for name, value in zip(TAG_METRICS, values, strict=True)}


def _false_alarms(predicted: NDArray[np.bool_], targets: Targets) -> dict[str, float]:
    without = (targets == 0).all(axis=1)
    if not without.any():
        return {}
    share = predicted[without].any(axis=1).mean()
    return {FALSE_ALARM_SHARE: float(share), PHOTOS_WITHOUT_LABELS: float(without.sum())}


def _top_3(scores: NDArray[np.float64], known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    order = np.argsort(np.where(known, -scores, np.inf), axis=1, kind="stable")
    top = np.zeros(scores.shape, dtype=bool)
    np.put_along_axis(top, order[:, :3], True, axis=1)
    return top


def _ranking_metrics(scores: ScoreMatrix, targets: Targets) -> dict[str, float]:
    from sklearn.metrics import label_ranking_average_precision_score  # takes seconds to import

    if not len(scores):
        return {}
    lowest_present = np.where(targets == 1, scores, np.inf).min(axis=1, keepdims=True)
    return {
        "LRAP": float(label_ranking_average_precision_score(targets, scores)),
        "coverage": float((scores >= lowest_present).sum(axis=1).mean()),
    }


def _fit_threshold(scores: NDArray[np.float64], targets: Targets, objective: Objective) -> float:
    from sklearn.metrics import precision_recall_curve  # takes seconds to import

    known = targets >= 0
    if not (targets == 1).any():
        return _DEFAULT_THRESHOLD
    precision, recall, cuts = precision_recall_curve(targets[known], scores[known])
    best = _best_cut(precision[:-1], recall[:-1], objective)  # without the end of the curve, where nothing is predicted
    below = cuts[best - 1] if best else 0.0
    return round(float(cuts[best] + below) / 2, _DIGITS)


def _best_cut(precision: NDArray[np.float64], recall: NDArray[np.float64], objective: Objective) -> int:
    """The index of the best cut. The cuts ascend, so recall falls along them."""
    if objective.goal == "recall":
        return int(np.flatnonzero(recall >= objective.value)[-1])
    if objective.goal == "precision":
        return int(np.argmax(precision >= min(objective.value, precision.max())))
    return int(np.argmax(2 * precision * recall / np.maximum(precision + recall, 1e-12)))


def _mean_defined(values: NDArray) -> float:
    """The mean of what is not NaN; NaN if nothing is left."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else float("nan")
