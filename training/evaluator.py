"""The evaluator: runs a network over photos, and fits temperature and thresholds to what it gives."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from training.calibration import expected_calibration_error, fit_temperature
from training.metrics import Objective, Targets, evaluate, fit_thresholds
from training.model import TaggerOutput

EVAL_BATCH = 64

Logits = NDArray[np.float32]  # [n, l]


@dataclass(frozen=True)
class Fitted:
    """What val says of a network: its temperature, its thresholds [l], and its metrics with both."""

    temperature: float
    thresholds: NDArray[np.float64]
    metrics: dict[str, float]


@torch.inference_mode()
def run_network(network: nn.Module, batch: NDArray[np.uint8]) -> TaggerOutput:
    """The output of `network` for photos uint8 [b, h, w, 3], on its own device and in full precision."""
    device = next(network.parameters()).device
    return network(torch.as_tensor(batch).to(device).permute(0, 3, 1, 2))  # b h w c -> b c h w


def predict(network: nn.Module, batches: Iterable[NDArray[np.uint8]]) -> Logits:
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
