"""Logistic regression by Newton's method, in numpy: L2-regularised, weighted, with a free bias and fixed offsets."""

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

_STEPS, _CLOSE = 50, 1e-8
_MOST_LOGIT = 30.0


def sigmoid(logits: Vector) -> Vector:
    return 1 / (1 + np.exp(-np.clip(logits, -_MOST_LOGIT, _MOST_LOGIT)))


def logit(scores: Vector) -> Vector:
    scores = np.clip(scores, 1e-7, 1 - 1e-7)
    return np.log(scores) - np.log1p(-scores)


def cross_entropy(logits: Vector, targets: Vector) -> Vector:
    """Of each photo [n]."""
    return np.logaddexp(0, logits) - targets * logits


def fit_logistic(x: Matrix, targets: Vector, weights: Vector, offsets: Vector, penalty: float) -> tuple[Vector, float]:
    """Returns the coefficients [d] and the bias that minimise

        sum(weights * cross_entropy(x @ coefficients + bias + offsets, targets)) + penalty / 2 * |coefficients|²

    for x [n, d] and targets [n] in 0..1. The problem is convex; steps are halved until they lower it.
    """
    n, d = x.shape
    design = np.hstack([x, np.ones((n, 1))])
    ridge = np.append(np.full(d, penalty), 1e-9)
    solution = np.zeros(d + 1)

    def loss(candidate: Vector) -> float:
        entropies = cross_entropy(design @ candidate + offsets, targets)
        return float(weights @ entropies + ridge @ candidate**2 / 2)

    value = loss(solution)
    for _ in range(_STEPS):
        scores = sigmoid(design @ solution + offsets)
        gradient = design.T @ (weights * (scores - targets)) + ridge * solution
        curvature = weights * np.maximum(scores * (1 - scores), 1e-9)
        step = np.linalg.solve((design.T * curvature) @ design + np.diag(ridge), gradient)
        size = 1.0
        while (new := loss(solution - size * step)) > value and size > 1e-6:
            size /= 2
        if size <= 1e-6:
            break
        solution, gain, value = solution - size * step, value - new, new
        if gain < _CLOSE * max(1.0, abs(value)):
            break
    return solution[:-1], float(solution[-1])
