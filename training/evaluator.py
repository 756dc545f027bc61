"""Runs a network over photos, and fits temperature and thresholds to what it gives.

The temperature makes scores readable as probabilities (Guo et al. 2017, arXiv 1706.04599).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from torch import nn

from training.metrics import Objective, Targets, evaluate, fit_thresholds
from training.model import TaggerOutput

EVAL_BATCH = 64

Logits = NDArray[np.float32]  # [n, l]

# Limits, for logits that separate perfectly: their best temperature is 0 or infinite.
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0


@dataclass(frozen=True)
class Fitted:
    """What val says of a network: its temperature, its thresholds [l], and its metrics with both."""

    temperature: float
    thresholds: NDArray[np.float64]
    metrics: dict[str, float]


@torch.inference_mode()
def run_network(network: nn.Module, batch: NDArray[np.uint8] | NDArray[np.float32]) -> TaggerOutput:
    """The output of `network` for photos uint8 [b, h, w, 3], or their tokens float32 [b, t, c].

    On the network's own device and in full precision.
    """
    inputs = torch.as_tensor(batch).to(next(network.parameters()).device)
    return network(inputs.permute(0, 3, 1, 2) if inputs.ndim == 4 else inputs)  # b h w c -> b c h w


def predict(network: nn.Module, batches: Iterable[NDArray[np.uint8] | NDArray[np.float32]]) -> Logits:
    """Logits float32 [n, l] of all `batches`; [0, 0] if there are none."""
    network.eval()
    logits = [run_network(network, batch).logits.cpu() for batch in batches]
    return torch.cat(logits).numpy() if logits else np.empty((0, 0), np.float32)


def sigmoid(logits: Logits, temperature: float = 1.0) -> NDArray[np.float32]:
    """Scores exactly as the calibrated network computes them, so that thresholds are compared with the same numbers."""
    return (torch.from_numpy(logits) / torch.tensor(temperature)).sigmoid().numpy()


def fit(logits: Logits, targets: Targets, objective: Objective) -> Fitted:
    """Fit temperature and thresholds to logits and targets [n, l], and measure with both."""
    temperature = fit_temperature(logits, targets)
    scores = sigmoid(logits, temperature)
    thresholds = fit_thresholds(scores, targets, objective)
    calibration = {
        "temperature": temperature,
        "ECE": expected_calibration_error(scores, targets),
        "ECE_uncalibrated": expected_calibration_error(sigmoid(logits), targets),
    }
    return Fitted(temperature, thresholds, evaluate(scores, targets, thresholds) | calibration)


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
