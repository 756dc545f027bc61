"""The metrics against scikit-learn and by hand, and thresholds against every threshold there is."""

import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, label_ranking_average_precision_score

from training.metrics import average_precisions, evaluate, fit_thresholds


def random_case(seed: int, unknown: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    targets = (random.random((40, 5)) < 0.3).astype(np.float32)
    targets[:2] = [[1], [0]]
    scores = (0.3 * targets + 0.7 * random.random(targets.shape)).astype(np.float32)
    targets[random.random(targets.shape) < unknown] = -1
    return scores, targets


def f1(actual: np.ndarray, predicted: np.ndarray) -> float:
    return 2 * (actual * predicted).sum() / (actual.sum() + predicted.sum())


def test_everything_known_is_what_scikit_learn_says():
    scores, targets = random_case(0)
    metrics = evaluate(scores, targets, np.full(5, 0.5))
    assert metrics["mAP"] == pytest.approx(average_precision_score(targets, scores, average="macro"))
    assert metrics["LRAP"] == pytest.approx(label_ranking_average_precision_score(targets, scores))
    assert metrics["OF1"] == pytest.approx(f1_score(targets, scores >= 0.5, average="micro"))


def test_f1_by_hand():
    scores = np.array([[0.9, 0.9], [0.9, 0.1], [0.1, 0.1]], np.float32)
    targets = np.array([[1, 0], [0, 1], [1, 1]], np.float32)
    metrics = evaluate(scores, targets, np.array([0.5, 0.5]))
    # Label 0: 1 hit of 2 predicted, 2 actual; label 1: none of 1 predicted, 2 actual. CF1 is F1 of the means.
    assert metrics["CF1"] == pytest.approx(0.25)
    assert metrics["OF1"] == pytest.approx(2 * (1 / 3) * (1 / 4) / (1 / 3 + 1 / 4))


def test_a_score_at_its_threshold_counts_as_a_tag():
    scores, targets = np.array([[0.5], [0.25]], np.float32), np.array([[1], [0]], np.float32)
    assert evaluate(scores, targets, np.array([0.5]))["OF1"] == 1
    assert evaluate(scores, targets, np.array([0.51]))["OF1"] == 0


def test_unknown_labels_take_no_part():
    scores, targets = random_case(1, unknown=0.3)
    for label, value in enumerate(average_precisions(scores, targets)):
        known = targets[:, label] >= 0
        assert value == pytest.approx(average_precision_score(targets[known, label], scores[known, label]))
    metrics = evaluate(scores, targets, np.full(5, 0.5))
    elsewhere = np.where(targets < 0, 1 - scores, scores)
    assert evaluate(elsewhere, targets, np.full(5, 0.5)) == metrics
    assert fit_thresholds(elsewhere, targets) == pytest.approx(fit_thresholds(scores, targets))


def test_no_metric_is_nan_where_every_photo_has_an_unknown_label():
    """As in a partially labelled data set; tagger.json cannot hold a NaN."""
    scores, targets = random_case(2)
    targets[np.arange(40), np.arange(40) % 5] = -1
    targets[:, 4] = np.minimum(targets[:, 4], 0)  # and one label is never present
    metrics = evaluate(scores, targets, fit_thresholds(scores, targets))
    assert [name for name, value in metrics.items() if not math.isfinite(value)] == []


def test_a_label_never_present_has_no_average_precision_and_the_usual_threshold():
    scores, targets = random_case(3)
    targets[:, 2] = 0
    assert np.isnan(average_precisions(scores, targets)).tolist() == [False, False, True, False, False]
    assert fit_thresholds(scores, targets)[2] == 0.5


@pytest.mark.parametrize("scale", [1, 1e-2, 1e-4])  # a rare label's scores are tiny
@pytest.mark.parametrize("seed", range(4))
def test_no_other_threshold_has_a_better_f1(seed: int, scale: float):
    scores, targets = random_case(seed, unknown=0.2)
    scores = np.round(scores, 2 if seed % 2 else 7) * np.float32(scale)  # with ties and without
    thresholds = fit_thresholds(scores, targets)
    assert ((thresholds >= 0) & (thresholds <= 1)).all()
    for label, threshold in enumerate(thresholds):
        known = targets[:, label] >= 0
        actual, values = targets[known, label], scores[known, label]
        best = max(f1(actual, values >= cut) for cut in values)
        assert f1(actual, values >= threshold) == pytest.approx(best), label


def test_a_threshold_lies_midway_between_what_it_separates():
    scores = np.array([[0.1], [0.3], [0.7], [0.9]], np.float32)
    assert fit_thresholds(scores, np.array([[0], [0], [1], [1]], np.float32)) == pytest.approx([0.5])
