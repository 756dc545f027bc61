"""The fit of one label to features: what it learns, what it says about itself, and that it always says the same."""

from dataclasses import replace

import numpy as np
import pytest

from labelwise.errors import DataError
from teaching.fit import FittedLabel, are_mistakes, correct_label, fit_label
from teaching.logistic import sigmoid


def photos(count: int, seed: int = 0, strength: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Features [n, 40] of unit length, of which three tell the answer, and the answers [n], a quarter yes."""
    random = np.random.default_rng(seed)
    has = np.arange(count) % 4 == 0
    features = random.normal(size=(count, 40))
    features[has, :3] += strength
    return (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32), has


def test_cross_validation_says_what_other_photos_confirm():
    features, has = photos(80)
    fitted = fit_label("it", features, has, None)
    others, truth = photos(4000, seed=1)
    scores = sigmoid(others @ fitted.weight + fitted.bias)
    tagged = scores >= fitted.threshold
    f1 = 2 * (tagged & truth).sum() / (tagged.sum() + truth.sum())
    assert f1 == pytest.approx(fitted.expectation.f1, abs=0.12)
    assert fitted.expectation.average_precision > 0.75
    assert scores.mean() == pytest.approx(truth.mean(), abs=0.06)  # calibrated
    again = fit_label("it", features, has, None)
    assert np.array_equal(fitted.weight, again.weight)
    assert fitted.expectation == again.expectation


def test_noise_is_not_promised_to_be_a_label():
    features, has = photos(80, strength=0.0)
    assert fit_label("it", features, has, None).expectation.average_precision < 0.5


def test_a_wrong_answer_is_the_most_doubtful():
    features, has = photos(80, strength=4.0)
    has[1] = True
    against = fit_label("it", features, has, None).doubts
    assert np.where(has, against, 1 - against).argmin() == 1


def test_a_label_that_is_right_stays_as_it_is():
    features, has = photos(80)
    before = np.where(has, 0.9, 0.1).astype(np.float32)
    fitted = fit_label("it", features, has, before)
    assert fitted.expectation.before == 1.0
    assert fitted.expectation.average_precision > 0.99
    assert fitted.factor > 0.5


@pytest.mark.parametrize("rows", [[0, 4, 1, 2, 3, 5], [0, 4, 8, 1, 2]])
def test_too_few_photos_are_refused(rows: list[int]):
    features, has = photos(20)
    with pytest.raises(DataError, match="at least 3 with it and 3 without it"):
        fit_label("it", features[rows], has[rows], None)


def test_photos_that_are_all_alike_are_refused():
    features, has = photos(20)
    features[has] = features[0]
    with pytest.raises(DataError, match="The 5 photos with 'it' are all alike"):
        fit_label("it", features, has, None)


def test_mistakes_alone_do_not_turn_a_label_round():
    """A label that is right nine times out of ten learns from ten mistakes, and from nothing else."""
    features, has = photos(4000, strength=1.5)
    known = fit_label("it", features[:300], has[:300], None)
    logits = features @ known.weight + known.bias
    before = sigmoid(logits)
    wrong = (before >= known.threshold) != has
    rows = np.concatenate([np.flatnonzero(wrong & (has == answer))[:10] for answer in (True, False)])
    others = np.arange(2000, 4000)

    def f1(fitted: FittedLabel) -> float:
        scores = sigmoid(features[others] @ fitted.weight + fitted.bias + fitted.factor * logits[others])
        tagged = scores >= fitted.threshold
        return float(2 * (tagged & has[others]).sum() / (tagged.sum() + has[others].sum()))

    for are_corrections in (True, False):
        assert not are_mistakes(has, before, known.threshold, are_corrections)
        assert are_mistakes(has[rows], before[rows], known.threshold, are_corrections)
    half = np.concatenate([rows, np.flatnonzero(~wrong)[:20]])
    assert [are_mistakes(has[half], before[half], known.threshold, each) for each in (True, False)] == [True, False]
    corrected = correct_label("it", features[rows], has[rows], before[rows], known.threshold)
    plain = fit_label("it", features[rows], has[rows], before[rows])
    was = f1(replace(known, weight=np.zeros(40), bias=0.0, factor=1.0))
    assert corrected.threshold == known.threshold
    assert f1(corrected) > was - 0.02
    assert f1(plain) < was - 0.1
