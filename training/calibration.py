"""Temperature scaling (Guo et al. 2017, arXiv 1706.04599): scores that can be read as probabilities."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

# Limits, for logits that separate perfectly: their best temperature is 0 or infinite.
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0


def fit_temperature(logits: NDArray[np.float32], targets: NDArray[np.float32]) -> float:
    """The temperature T, one for all labels, for which sigmoid(logits / T) has the lowest cross-entropy.

    logits, targets [n, l]; a target below 0 is unknown and does not count. T lies within MIN_TEMPERATURE and
    MAX_TEMPERATURE, and is 1 if no target is known. T > 0 keeps every ranking, so no AP changes.
    """
    known = targets >= 0
    if not known.any():
        return 1.0
    z, y = logits[known].astype(np.float64), targets[known].astype(np.float64)

    def cross_entropy(log_temperature: float) -> float:
        scaled = z / np.exp(log_temperature)
        return float((np.logaddexp(0, scaled) - y * scaled).mean())

    # The loss is convex in 1 / T, so it has one minimum along log T.
    bounds = (np.log(MIN_TEMPERATURE), np.log(MAX_TEMPERATURE))
    return float(np.exp(minimize_scalar(cross_entropy, bounds=bounds, method="bounded").x))


def expected_calibration_error(scores: NDArray[np.float32], targets: NDArray[np.float32], bins: int = 15) -> float:
    """How far scores are from frequencies, over all known decisions of all labels: 0 (perfect) to 1.

    ECE = sum over bins of n_bin / n * |mean score - share present|, with `bins` bins of equal width over the score, the
    probability of *presence*. Guo et al. bin the probability of the predicted class, which does not exist here.
    scores, targets [n, l]; a target below 0 is unknown and does not count. 0 if no target is known.
    """
    known = targets >= 0
    if not known.any():
        return 0.0
    score, present = scores[known].astype(np.float64), targets[known].astype(np.float64)
    index = np.minimum((score * bins).astype(int), bins - 1)
    gaps = np.bincount(index, weights=score - present)  # n_bin * (mean score - share present)
    return float(np.abs(gaps).sum() / len(score))
