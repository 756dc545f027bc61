"""Temperatures that are known because the data was drawn with them, and calibration errors by hand."""

import numpy as np
import pytest

from training.evaluator import MAX_TEMPERATURE, MIN_TEMPERATURE, expected_calibration_error, fit_temperature


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return (1 / (1 + np.exp(-logits))).astype(np.float32)


def drawn_with(temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Logits of a tagger that is `temperature` times too sure of itself, and labels by the true probabilities."""
    random = np.random.default_rng(0)
    honest = random.normal(-1, 2, (4000, 5))
    targets = (random.random(honest.shape) < sigmoid(honest)).astype(np.float32)
    return (honest * temperature).astype(np.float32), targets


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_the_temperature_is_found_and_calibrates(temperature: float):
    logits, targets = drawn_with(temperature)
    found = fit_temperature(logits, targets)
    assert found == pytest.approx(temperature, rel=0.05)
    assert expected_calibration_error(sigmoid(logits / found), targets) < 0.01
    if temperature != 1:
        assert expected_calibration_error(sigmoid(logits), targets) > 0.05


def test_no_other_temperature_has_a_lower_cross_entropy():
    logits, targets = drawn_with(1.7)
    logits, targets = logits[:200], targets[:200]

    def cross_entropy(temperature: float) -> float:
        right = np.where(targets == 1, logits, -logits).astype(np.float64) / temperature
        return float(np.mean(np.log1p(np.exp(-right))))

    best = cross_entropy(fit_temperature(logits, targets))
    others = [cross_entropy(temperature) for temperature in np.geomspace(MIN_TEMPERATURE, MAX_TEMPERATURE, 200)]
    assert best <= min(others) < best + 1e-3


def test_unknown_labels_do_not_count():
    logits, targets = drawn_with(2.0)
    targets[np.random.default_rng(1).random(targets.shape) < 0.4] = -1
    elsewhere = np.where(targets < 0, -5 * logits, logits).astype(np.float32)
    assert fit_temperature(elsewhere, targets) == fit_temperature(logits, targets)
    assert expected_calibration_error(sigmoid(elsewhere), targets) == pytest.approx(
        expected_calibration_error(sigmoid(logits), targets)
    )


@pytest.mark.parametrize(
    ("logits", "targets", "expected"),
    [
        ([[3, 2], [-2, -1]], [[1, 1], [0, 0]], MIN_TEMPERATURE),  # separable: the surer the better
        ([[300, 200], [-200, -100]], [[1, 1], [0, 0]], None),  # so sure already that nothing differs any more
        ([[3, 2], [2, 1]], [[1, 1], [1, 1]], MIN_TEMPERATURE),  # one class only
        ([[-3, -2], [-2, -1]], [[1, 1], [1, 1]], MAX_TEMPERATURE),  # and all wrong
        ([[1e4, -1e4]], [[0, 1]], MAX_TEMPERATURE),
        ([[0, 0]], [[1, 0]], None),
        ([[1, 2]], [[-1, -1]], 1.0),
    ],
)
def test_degenerate_logits_give_a_finite_temperature(
    logits: list[list[float]], targets: list[list[float]], expected: float | None
):
    found = fit_temperature(np.array(logits, np.float32), np.array(targets, np.float32))
    assert MIN_TEMPERATURE <= found <= MAX_TEMPERATURE
    if expected is not None:
        assert found == pytest.approx(expected, rel=0.01)


def test_the_calibration_error_by_hand():
    scores = np.array([[0.1, 0.3], [0.8, 1.0], [0.9, 0.0]], np.float32)
    targets = np.array([[0, 1], [1, 1], [0, -1]], np.float32)
    # Two bins: 0.1 and 0.3 with one present of two; 0.8, 1.0 and 0.9 with two of three.
    expected = 2 / 5 * abs(0.2 - 1 / 2) + 3 / 5 * abs(0.9 - 2 / 3)
    assert expected_calibration_error(scores, targets, bins=2) == pytest.approx(expected, abs=1e-6)


def test_the_calibration_error_of_certainty_and_of_nothing():
    certain, targets = np.array([[1.0, 0.0]], np.float32), np.array([[1, 0]], np.float32)
    assert expected_calibration_error(certain, targets) == 0
    assert expected_calibration_error(certain, 1 - targets) == 1
    assert expected_calibration_error(certain, np.full((1, 2), -1, np.float32)) == 0
