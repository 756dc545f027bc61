"""The metrics against scikit-learn, the authors' formulas and by hand; thresholds against every threshold there is."""

import math

import numpy as np
import pytest
from sklearn.metrics import (
    average_precision_score,
    coverage_error,
    f1_score,
    hamming_loss,
    label_ranking_average_precision_score,
    precision_score,
    recall_score,
)

from labelwise.tagging import judge
from tests.labelwise.tagging_cases import Case, every_case
from training.metrics import Objective, average_precisions, evaluate, fit_thresholds, parse_objective


def random_case(seed: int, unknown: float = 0.0, images: int = 40) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    targets = (random.random((images, 5)) < 0.3).astype(np.float32)
    targets[:2] = [[1], [0]]
    scores = (0.3 * targets + 0.7 * random.random(targets.shape)).astype(np.float32)
    targets[random.random(targets.shape) < unknown] = -1
    return scores, targets


def f1(actual: np.ndarray, predicted: np.ndarray) -> float:
    return 2 * (actual * predicted).sum() / (actual.sum() + predicted.sum())


def authors_average_precision(scores: np.ndarray, targets: np.ndarray) -> float:
    """As MulCon's and ML-GCN's code has it: down the ranking, the precision whenever a present one is met."""
    hits, total = 0, 0.0
    for rank, image in enumerate(sorted(range(len(scores)), key=lambda image: -scores[image]), 1):
        if targets[image] == 1:
            hits += 1
            total += hits / rank
    return total / hits


def authors_six(scores: np.ndarray, targets: np.ndarray, top: int) -> dict[str, float]:
    """CP to OF1 as MulCon's code has them for sigmoids: of an image's `top` highest those of at least 0.5."""
    images, labels = scores.shape
    hits, predicted, present = [0] * labels, [0] * labels, [0] * labels
    for image in range(images):
        ranked = sorted(range(labels), key=lambda label: -scores[image, label])[:top]
        for label in range(labels):
            tagged = label in ranked and scores[image, label] >= 0.5
            predicted[label] += tagged
            present[label] += targets[image, label] == 1
            hits[label] += tagged and targets[image, label] == 1
    cp = sum(hit / max(count, 1) for hit, count in zip(hits, predicted, strict=True)) / labels
    cr = sum(hit / count for hit, count in zip(hits, present, strict=True)) / labels
    op, over = sum(hits) / sum(predicted), sum(hits) / sum(present)
    f1s = [2 * p * r / (p + r) for p, r in ((cp, cr), (op, over))]
    return {"CP": cp, "CR": cr, "CF1": f1s[0], "OP": op, "OR": over, "OF1": f1s[1]}


@pytest.mark.parametrize("thresholds", [[0.5] * 5, [0.1, 0.3, 0.5, 0.7, 1.1]])
def test_everything_known_is_what_scikit_learn_says(thresholds: list[float]):
    scores, targets = random_case(0)
    predicted = scores >= thresholds
    metrics = evaluate(scores, targets, np.array(thresholds))
    assert metrics["mAP"] == pytest.approx(average_precision_score(targets, scores, average="macro"))
    assert metrics["LRAP"] == pytest.approx(label_ranking_average_precision_score(targets, scores))
    assert metrics["coverage"] == pytest.approx(coverage_error(targets, scores))
    assert metrics["hamming"] == pytest.approx(hamming_loss(targets, predicted))
    for prefix, average in (("C", "macro"), ("O", "micro")):
        options = {"average": average, "zero_division": 0}  # at 1.1 the last label is never predicted
        assert metrics[prefix + "P"] == pytest.approx(precision_score(targets, predicted, **options))
        assert metrics[prefix + "R"] == pytest.approx(recall_score(targets, predicted, **options))
    assert metrics["OF1"] == pytest.approx(f1_score(targets, predicted, average="micro"))


@pytest.mark.parametrize("digits", [7, 1])
def test_average_precision_is_scikit_learns_with_ties_too(digits: int):
    scores, targets = random_case(4)
    scores = scores.round(digits)
    expected = average_precision_score(targets, scores, average=None)
    assert average_precisions(scores, targets) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_without_ties_the_metrics_are_the_authors(seed: int):
    scores, targets = random_case(seed)
    scores = scores + np.float32(0.2)  # so that more than three reach 0.5, and top 3 differs from all
    expected = [authors_average_precision(*pair) for pair in zip(scores.T, targets.T, strict=True)]
    assert average_precisions(scores, targets) == pytest.approx(expected)
    metrics = evaluate(scores, targets, np.full(5, 0.9))
    all_of_them, top = authors_six(scores, targets, 5), authors_six(scores, targets, 3)
    assert {name: metrics[f"{name}@0.5"] for name in all_of_them} == pytest.approx(all_of_them)
    assert {name: metrics[f"{name}@top3"] for name in top} == pytest.approx(top)
    assert top["OR"] < all_of_them["OR"]


def test_the_names_that_tagger_json_keeps():
    scores, targets = random_case(0)
    six = ["CP", "CR", "CF1", "OP", "OR", "OF1"]
    alarms = ["false_alarm_share", "photos_without_labels"]
    counted = (*(f"{n}@0.5" for n in six), *(f"{n}@top3" for n in six))
    assert list(evaluate(scores, targets, np.full(5, 0.5))) == [
        *("mAP", *six, "LRAP", "coverage", "hamming", *alarms, *counted)
    ]


def test_f1_by_hand():
    scores = np.array([[0.9, 0.9], [0.9, 0.1], [0.1, 0.1]], np.float32)
    targets = np.array([[1, 0], [0, 1], [1, 1]], np.float32)
    metrics = evaluate(scores, targets, np.array([0.5, 0.5]))
    # Label 0: 1 hit of 2 predicted, 2 actual; label 1: none of 1 predicted, 2 actual. CF1 is F1 of the means.
    assert metrics["CF1"] == pytest.approx(0.25)
    assert metrics["OF1"] == pytest.approx(2 * (1 / 3) * (1 / 4) / (1 / 3 + 1 / 4))


@every_case
def test_the_one_rule_from_scores_to_tags(case: Case):
    """Against the tags that serving gives, no decision is wrong; against their opposite, every one is."""
    scores, tags = case.scores[np.newaxis], np.array([case.is_tag], np.float32)
    thresholds = np.array(case.spec.thresholds)
    assert evaluate(scores, tags, thresholds)["hamming"] == 0
    assert evaluate(scores, 1 - tags, thresholds)["hamming"] == 1


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


def test_top_3_by_hand():
    scores = np.array([[0.9, 0.8, 0.7, 0.6, 0.1], [0.9, 0.4, 0.3, 0.2, 0.1]], np.float32)
    targets = np.array([[1, 0, 1, 1, 0], [1, 1, 0, 0, 1]], np.float32)
    metrics = evaluate(scores, targets, np.full(5, 0.05))
    # Tags: labels 0, 1, 2 of the first image, label 0 of the second; 3 of these 4 are right, of 6 present.
    assert (metrics["OP@top3"], metrics["OR@top3"]) == pytest.approx((3 / 4, 3 / 6))
    targets[0, 1] = -1  # then label 3 moves up
    metrics = evaluate(scores, targets, np.full(5, 0.05))
    assert (metrics["OP@top3"], metrics["OR@top3"]) == pytest.approx((4 / 4, 4 / 6))
    equal = evaluate(np.full((1, 5), 0.8, np.float32), np.array([[1, 1, 1, 0, 0]], np.float32), np.full(5, 0.5))
    assert equal["OP@top3"] == 1  # the first labels win


def test_false_alarms_by_hand():
    scores = np.array([[0.9, 0.1], [0.1, 0.3], [0.1, 0.1], [0.9, 0.9], [0.9, 0.9]], np.float32)
    targets = np.array([[0, 0], [0, 0], [0, 0], [0, -1], [1, 0]], np.float32)
    for thresholds, share in (([0.5, 0.5], 1 / 3), ([0.5, 0.3], 2 / 3), ([0.95, 0.95], 0)):
        metrics = evaluate(scores, targets, np.array(thresholds))
        # The fourth image may have the second label, the fifth has the first.
        assert (metrics["false_alarm_share"], metrics["photos_without_labels"]) == (pytest.approx(share), 3)
    without = evaluate(scores[3:], targets[3:], np.array([0.5, 0.5]))
    assert not {"false_alarm_share", "photos_without_labels"} & without.keys()


@pytest.mark.parametrize("labels", [1, 2])
def test_top_3_of_fewer_labels_is_all_of_them(labels: int):
    scores, targets = (values[:, :labels] for values in random_case(5))
    metrics = evaluate(scores, targets, np.full(labels, 0.3))
    assert metrics["OF1@0.5"] > 0
    for name in ("CP", "CR", "CF1", "OP", "OR", "OF1"):
        assert metrics[f"{name}@top3"] == metrics[f"{name}@0.5"]


def test_ranking_metrics_of_images_without_labels_are_scikit_learns():
    scores, targets = random_case(6)
    targets[:10] = 0
    metrics = evaluate(scores, targets, np.full(5, 0.5))
    assert metrics["LRAP"] == pytest.approx(label_ranking_average_precision_score(targets, scores))
    assert metrics["coverage"] == pytest.approx(coverage_error(targets, scores))


def test_a_label_without_a_positive_is_in_no_mean_over_labels_but_its_tags_are_wrong():
    scores = np.array([[0.9, 0.9, 0.1], [0.2, 0.9, 0.9], [0.1, 0.1, 0.9]], np.float32)
    targets = np.array([[1, 0, 0], [1, 0, 0], [0, -1, -1]], np.float32)
    metrics = evaluate(scores, targets, np.full(3, 0.5))
    assert (metrics["mAP"], metrics["CP"], metrics["CR"]) == (1, 1, 0.5)  # of the first label alone
    assert (metrics["OP"], metrics["OR"]) == (1 / 4, 1 / 2)  # three wrong tags that are known to be wrong
    assert metrics["hamming"] == pytest.approx(4 / 7)
    assert np.isnan(average_precisions(scores, np.full((3, 3), -1, np.float32))).all()


def test_a_label_never_predicted_has_precision_0_and_no_part_in_op():
    scores, targets = np.array([[0.9, 0.1], [0.1, 0.1]], np.float32), np.array([[1, 1], [0, 0]], np.float32)
    metrics = evaluate(scores, targets, np.full(2, 0.5))
    assert (metrics["CP"], metrics["CR"]) == (0.5, 0.5)
    assert (metrics["OP"], metrics["OR"]) == (1, 0.5)


@pytest.mark.parametrize("value", [0, -1])
def test_where_nothing_is_present_only_what_can_be_told_is_told(value: int):
    scores = random_case(7)[0]
    metrics = evaluate(scores, np.full(scores.shape, value, np.float32), np.full(5, 0.5))
    assert not {"mAP", "CP", "CR", "CF1", "OR", "OF1"} & metrics.keys()
    assert ("hamming" in metrics) == (value == 0)
    assert all(map(math.isfinite, metrics.values()))


def test_a_label_never_present_has_no_average_precision():
    scores, targets = random_case(3)
    targets[:, 2] = 0
    assert np.isnan(average_precisions(scores, targets)).tolist() == [False, False, True, False, False]


def test_a_label_with_few_positives_takes_the_threshold_of_all_and_one_without_takes_half():
    scores, targets = random_case(3, images=100)
    targets[:, 2] = 0
    targets[np.flatnonzero(targets[:, 3])[9:], 3] = -1  # nine are left
    thresholds = fit_thresholds(scores, targets)
    shared = fit_thresholds(scores.reshape(-1, 1), targets.reshape(-1, 1))[0]
    assert (thresholds == shared).tolist() == [False, False, False, True, False]
    assert thresholds[2] == 0.5


@pytest.mark.parametrize("scale", [1, 1e-2, 1e-4])  # a rare label's scores are tiny
@pytest.mark.parametrize("seed", range(4))
def test_no_other_threshold_has_a_better_f1(seed: int, scale: float):
    scores, targets = random_case(seed, unknown=0.2, images=100)
    scores = np.round(scores, 2 if seed % 2 else 7) * np.float32(scale)  # with ties and without
    scores, _ = judge(scores, 0.5)  # serving tells no others apart
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


def test_a_threshold_separates_scores_that_are_neighbours():
    scores = np.array([[0.3], [0.300001]], np.float32)
    thresholds = fit_thresholds(scores, np.array([[0], [1]], np.float32))
    assert judge(scores, thresholds)[1].tolist() == [[False], [True]]


def test_a_threshold_does_not_separate_scores_that_serving_rounds_to_the_same():
    """Between the raw scores a threshold would lie above what serving compares it with, and lose the photo."""
    scores = np.array([[0.1], [0.3000001], [0.3000003]], np.float32)
    thresholds = fit_thresholds(scores, np.array([[0], [0], [1]], np.float32))
    assert judge(scores, thresholds)[1].tolist() == [[False], [True], [True]]


@pytest.mark.parametrize("share", [0.3, 0.6, 0.8, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_precision_and_recall_that_were_asked_for(seed: int, share: float):
    scores, targets = random_case(seed, unknown=0.2, images=100)
    scores = np.round(scores, 2 if seed % 2 else 7)  # with ties and without
    precise = fit_thresholds(scores, targets, Objective("precision", share))
    complete = fit_thresholds(scores, targets, Objective("recall", share))
    for label in range(5):
        known = targets[:, label] >= 0
        actual, values = targets[known, label], scores[known, label]
        every = [(values >= cut, cut) for cut in np.unique(values)]
        precisions = {cut: (actual * predicted).sum() / predicted.sum() for predicted, cut in every}
        recalls = {cut: (actual * predicted).sum() / actual.sum() for predicted, cut in every}
        wanted = min(share, max(precisions.values()))
        assert_cuts_at(precise[label], values, min(cut for cut, value in precisions.items() if value >= wanted))
        assert_cuts_at(complete[label], values, max(cut for cut, value in recalls.items() if value >= share))


def assert_cuts_at(threshold: float, values: np.ndarray, cut: float) -> None:
    assert ((values >= threshold) == (values >= cut)).all()


def test_thresholds_for_precision_and_recall_by_hand():
    scores = np.array([[0.9], [0.8], [0.6], [0.4], [0.2]], np.float32)
    targets = np.array([[0], [1], [1], [0], [1]], np.float32)
    # Precision from the highest score down: 0, 1/2, 2/3, 1/2, 3/5; recall: 0, 1/3, 2/3, 2/3, 1.
    for text, expected in {
        "precision=0.65": 0.5,  # between 0.4 and 0.6
        "precision=0.6": 0.1,  # lower still, and reached again
        "precision=0.9": 0.5,  # out of reach: the best there is
        "recall=0.6": 0.5,
        "recall=0.7": 0.1,
        "recall=0.3": 0.7,
    }.items():
        assert fit_thresholds(scores, targets, parse_objective(text)) == pytest.approx([expected]), text


def test_an_objective_is_what_was_written():
    expected = [Objective("f1"), Objective("precision", 0.9), Objective("recall", 1)]
    assert [parse_objective(text) for text in ("f1", "precision=0.90", "recall=1")] == expected


@pytest.mark.parametrize(
    "text", ["", "F1", "f1=0.5", "precision", "precision=", "precision=high", "recall=0", "recall=1.1", "recall=nan"]
)
def test_what_is_no_objective_is_refused(text: str):
    with pytest.raises(ValueError, match=r"is not f1, precision=0\.9 or recall=0\.9"):
        parse_objective(text)
