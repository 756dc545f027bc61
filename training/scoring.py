"""How good a model is on val: logits, calibration, thresholds and metrics in one pass."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from training.calibration import expected_calibration_error, fit_temperature
from training.data import EvalBatches
from training.metrics import Objective, Targets, evaluate, fit_thresholds

EVAL_BATCH = 64

Logits = NDArray[np.float32]  # [n, l]


@dataclass(frozen=True)
class Scored:
    """What val says of a model: its temperature, its thresholds [l], and its metrics at those."""

    temperature: float
    thresholds: NDArray[np.float64]
    metrics: dict[str, float]


def score(logits: Logits, targets: Targets, objective: Objective) -> Scored:
    """Fit temperature and thresholds, then measure with both. logits, targets [n, l]."""
    temperature = fit_temperature(logits, targets)
    scores = sigmoid(logits, temperature)
    thresholds = fit_thresholds(scores, targets, objective)
    calibration = {
        "temperature": temperature,
        "ECE": expected_calibration_error(scores, targets),
        "ECE_uncalibrated": expected_calibration_error(sigmoid(logits), targets),
    }
    return Scored(temperature, thresholds, evaluate(scores, targets, thresholds) | calibration)


def sigmoid(logits: Logits, temperature: float = 1.0) -> NDArray[np.float32]:
    """Scores as the calibrated model itself computes them, to the last bit, so that thresholds meet the very same."""
    return (torch.from_numpy(logits) / torch.tensor(temperature)).sigmoid().numpy()


@torch.inference_mode()
def predict(model: nn.Module, batches: EvalBatches, device: torch.device) -> Logits:
    """Logits float32 [n, l] of uint8 batches [b, h, w, 3], in full precision; [0, 0] of none."""
    model.eval()
    logits = [model(torch.as_tensor(batch).to(device).permute(0, 3, 1, 2)).logits.cpu() for batch in batches]
    return torch.cat(logits).numpy() if logits else np.empty((0, 0), np.float32)
