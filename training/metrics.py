"""What a tagger is judged by, and the thresholds that turn its scores into tags."""

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, label_ranking_average_precision_score, precision_recall_curve

Scores = NDArray[np.float32]  # [n, l], 0..1
Targets = NDArray[np.float32]  # [n, l], 1 present, 0 absent, below 0 unknown

_DEFAULT_THRESHOLD = 0.5


def average_precisions(scores: Scores, targets: Targets) -> NDArray[np.float64]:
    """Average precision per label [l] over the images where it is known; NaN where a label is never present."""
    result = np.full(scores.shape[1], np.nan)
    for label in range(scores.shape[1]):
        known = targets[:, label] >= 0
        if (targets[known, label] == 1).any():
            result[label] = average_precision_score(targets[known, label], scores[known, label])
    return result


def evaluate(scores: Scores, targets: Targets, thresholds: NDArray[np.float64]) -> dict[str, float]:
    """The headline metrics: mAP (macro), per-class and overall F1 (CF1, OF1) at `thresholds`, and label-ranking AP.

    LRAP counts the images whose every label is known, and is left out where there is none.
    """
    known = targets >= 0
    fully_known = known.all(axis=1)
    predicted = (scores >= thresholds) & known
    actual = (targets == 1) & known
    hits = (predicted & actual).sum(axis=0)
    # CF1 and OF1 as the field computes them: F1 of the mean precision and recall, and of the pooled counts.
    class_precision = np.mean(hits / np.maximum(predicted.sum(axis=0), 1))
    class_recall = np.mean(hits / np.maximum(actual.sum(axis=0), 1))
    metrics = {
        "mAP": float(np.nanmean(average_precisions(scores, targets))),
        "CF1": _harmonic(class_precision, class_recall),
        "OF1": _harmonic(hits.sum() / max(predicted.sum(), 1), hits.sum() / max(actual.sum(), 1)),
    }
    if fully_known.any():
        metrics["LRAP"] = float(label_ranking_average_precision_score(targets[fully_known], scores[fully_known]))
    return metrics


def fit_thresholds(scores: Scores, targets: Targets) -> NDArray[np.float64]:
    """Per label [l] the threshold with the highest F1, midway between the two scores it separates."""
    return np.array([_best_threshold(scores[:, label], targets[:, label]) for label in range(scores.shape[1])])


def _best_threshold(scores: Scores, targets: Targets) -> float:
    known = targets >= 0
    scores, targets = scores[known], targets[known]
    if not (targets == 1).any():
        return _DEFAULT_THRESHOLD
    precision, recall, cuts = precision_recall_curve(targets, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    best = int(f1[:-1].argmax())
    below = cuts[best - 1] if best else 0.0
    return float((cuts[best] + below) / 2)


def _harmonic(precision: float, recall: float) -> float:
    return float(2 * precision * recall / max(precision + recall, 1e-12))
