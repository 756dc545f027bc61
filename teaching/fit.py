"""Fits one label to photos that are known to have it or not, and says by cross-validation what to expect of it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labelwise.errors import DataError
from teaching.given_photos import FEWEST
from teaching.logistic import Matrix, Vector, cross_entropy, fit_logistic, logit, sigmoid
from training.metrics import average_precisions, f1_score

_PENALTIES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 1000.0)  # the last leaves an improved label as it is
_SMALL_STEP = 1.0  # the penalty
# Of the answers; more contradict a useful label only if photos were chosen for it. Corrections are suspect earlier.
_MOST_MISTAKES, _MOST_CORRECTED = 1 / 2, 1 / 3
_FOLDS = 5
_REPEATS, _MANY = 5, 200  # with many photos, one cross-validation says enough
_MOST_DIRECTIONS = 256  # of the features
_RESAMPLES = 200  # of the photos, for the spread
_ALIKE = 0.999  # the root of the mean cosine between photos
_OWN_THRESHOLD = 10  # photos with the label from which on its own threshold weighs more than the rule


@dataclass(frozen=True)
class Expectation:
    """What cross-validation says, 0..1. The spreads are standard deviations over resampled photos.

    `before` is the average precision of the label that was improved, on the same photos; `with_half` the one after
    learning from half of them. None where there is no such number.
    """

    average_precision: float
    spread: float
    f1: float
    f1_spread: float
    before: float | None
    with_half: float | None


@dataclass(frozen=True)
class FittedLabel:
    """score = sigmoid(features @ weight + bias + factor * logit of the score before); `factor` is 0 for a new label.

    `doubts` [n] are the scores that cross-validation gave the photos.
    """

    weight: Vector  # [d]
    bias: float
    factor: float
    threshold: float
    expectation: Expectation
    doubts: Vector


def fit_label(label: str, features: NDArray, has: NDArray[np.bool_], before: NDArray | None) -> FittedLabel:
    """Learns from features [n, d] and answers [n]; `before` are the scores [n] of a label that is improved.

    Deterministic. Raises DataError if there are too few photos, or if the photos do not differ.
    """
    _require_enough(label, features, has)
    start = np.zeros(len(has)) if before is None else logit(before.astype(np.float64))
    basis = _directions(features.astype(np.float64))
    problem = _Problem(features @ basis, has.astype(np.float64), start)
    repeats = _REPEATS if len(has) <= _MANY else 1
    folds = [_folds(has, seed) for seed in range(repeats)]
    found = {penalty: np.stack([problem.held_out(each, penalty) for each in folds]) for penalty in _PENALTIES}
    losses = {penalty: problem.loss(logits) for penalty, logits in found.items()}
    penalty = min(_PENALTIES, key=lambda each: losses[each])
    slope, shift = _calibration(found[penalty], has)
    scores = sigmoid(slope * found[penalty] + shift)
    halves = [problem.held_out(each, penalty, halve=True) for each in folds] if has.sum() >= 2 * FEWEST else None
    weight, bias = problem.fit(np.arange(len(has)), penalty)
    return FittedLabel(
        weight=slope * (basis @ weight),
        bias=slope * bias + shift,
        factor=0.0 if before is None else slope,
        threshold=_threshold(scores, has),
        expectation=_expectation(scores, folds, has, before, halves),
        doubts=scores.mean(axis=0),
    )


def are_mistakes(has: NDArray[np.bool_], before: NDArray, threshold: float, are_corrections: bool) -> bool:
    """Whether so many of the answers contradict a label that its mistakes were chosen, and not photos."""
    return bool(((before >= threshold) != has).mean() > (_MOST_CORRECTED if are_corrections else _MOST_MISTAKES))


def correct_label(
    label: str, features: NDArray, has: NDArray[np.bool_], before: NDArray, threshold: float
) -> FittedLabel:
    """Moves a label a little, and leaves its threshold: for answers that are mostly mistakes. As `fit_label` otherwise.

    Such answers say nothing of the photos that it tags right, and a fit to them alone would turn the label round.
    """
    _require_enough(label, features, has)
    basis, start = _directions(features.astype(np.float64)), logit(before.astype(np.float64))
    problem = _Problem(features @ basis, has.astype(np.float64), start, bias=False)
    folds = [_folds(has, seed) for seed in range(_REPEATS)]
    scores = sigmoid(np.stack([problem.held_out(each, _SMALL_STEP) for each in folds]))
    weight, _ = problem.fit(np.arange(len(has)), _SMALL_STEP)
    expectation = _expectation(scores, folds, has, before, None)
    return FittedLabel(basis @ weight, 0.0, 1.0, threshold, expectation, scores.mean(axis=0))


class _Problem:
    """The regression on the coordinates x [n, r], in which yes and no weigh the same in total."""

    def __init__(self, x: Matrix, targets: Vector, start: Vector, bias: bool = True) -> None:
        self.x, self.targets, self.start, self.bias = x, targets, start, bias
        share = targets.mean()
        self.weights = np.where(targets == 1, 0.5 / share, 0.5 / (1 - share))

    def fit(self, rows: NDArray[np.intp], penalty: float) -> tuple[Vector, float]:
        weight, bias = fit_logistic(self.x[rows], self.targets[rows], self.weights[rows], self.start[rows], penalty)
        return weight, bias if self.bias else 0.0

    def held_out(self, folds: NDArray[np.intp], penalty: float, halve: bool = False) -> Vector:
        """The logits of the photos of each fold by a fit to the others, or to every second of these."""
        logits = np.empty(len(folds))
        for fold in np.unique(folds):
            rows = np.flatnonzero(folds != fold)
            if halve:
                rows = np.concatenate([rows[self.targets[rows] == target][::2] for target in (0, 1)])
            weight, bias = self.fit(rows, penalty)
            held = folds == fold
            logits[held] = self.x[held] @ weight + bias + self.start[held]
        return logits

    def loss(self, logits: Matrix) -> float:
        """The weighted cross-entropy of logits [repeats, n]."""
        return float((self.weights * cross_entropy(logits, self.targets)).mean())


def _require_enough(label: str, features: NDArray, has: NDArray[np.bool_]) -> None:
    for rows, what in ((has, "with"), (~has, "without")):
        if (count := int(rows.sum())) < FEWEST:
            raise DataError(
                f"{label!r} has {count or 'no'} {'photo' if count == 1 else 'photos'} {what} it: give at least "
                f"{FEWEST} with it and {FEWEST} without it; 20 and 60 are better."
            )
        if np.linalg.norm(features[rows].mean(axis=0)) > _ALIKE:  # of unit vectors
            raise DataError(f"The {count} photos {what} {label!r} are all alike: give different ones.")


def _directions(features: Matrix) -> Matrix:
    """An orthonormal basis [d, r] of the space of features [n, d], or of its largest part."""
    _, sizes, rows = np.linalg.svd(features, full_matrices=False)
    return rows[: min(_MOST_DIRECTIONS, int((sizes > 1e-6 * sizes[0]).sum()))].T


def _folds(has: NDArray[np.bool_], seed: int) -> NDArray[np.intp]:
    """The fold of each photo [n]; each has its share of both answers."""
    count = int(min(_FOLDS, has.sum(), (~has).sum()))
    random = np.random.default_rng(seed)
    folds = np.empty(len(has), np.intp)
    for answer in (True, False):
        rows = np.flatnonzero(has == answer)
        folds[random.permutation(rows)] = np.arange(len(rows)) % count
    return folds


def _calibration(logits: Matrix, has: NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and shift that make probabilities of logits [repeats, n] that a fit did not see (Platt, 1999)."""
    yes, no = has.sum(), (~has).sum()
    soft = np.where(has, (yes + 1) / (yes + 2), 1 / (no + 2))
    flat, repeats = logits.ravel(), len(logits)
    weights = np.full(flat.size, 1 / repeats)
    (change,), shift = fit_logistic(flat[:, None], np.tile(soft, repeats), weights, flat, penalty=1.0)
    return max(0.05, 1 + float(change)), shift


def _threshold(scores: Matrix, has: NDArray[np.bool_]) -> float:
    """The threshold with the best F1 on scores [repeats, n].

    With few photos it moves towards half of that F1, which is the best threshold of calibrated scores (Lipton et al.,
    2014).
    """
    own, best = _best_cut(scores.ravel(), np.tile(has, len(scores)))
    trust = has.sum() / (has.sum() + _OWN_THRESHOLD)
    return round(float(trust * own + (1 - trust) * best / 2), 6)


def _best_cut(scores: Vector, has: NDArray[np.bool_]) -> tuple[float, float]:
    """The threshold with the best F1, midway between two scores, and this F1."""
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(has[order])
    f1 = 2 * hits / (np.arange(1, len(hits) + 1) + has.sum())
    at = int(f1.argmax())
    below = scores[order[at + 1]] if at + 1 < len(order) else 0.0
    return float(scores[order[at]] + below) / 2, float(f1[at])


def _expectation(
    scores: Matrix,
    folds: list[NDArray[np.intp]],
    has: NDArray[np.bool_],
    before: NDArray | None,
    halves: list[Vector] | None,
) -> Expectation:
    """The tags of each fold come from the threshold of the other folds."""
    tagged = np.zeros(scores.shape, bool)
    for repeat, fold_of in enumerate(folds):
        for fold in np.unique(fold_of):
            held = fold_of == fold
            tagged[repeat, held] = scores[repeat, held] >= _best_cut(scores[repeat, ~held], has[~held])[0]
    random = np.random.default_rng(0)
    precisions, f1s = [], []
    for resample in range(_RESAMPLES):
        chosen = np.concatenate([random.choice(rows := np.flatnonzero(has == answer), len(rows)) for answer in (0, 1)])
        repeat = resample % len(scores)
        precisions.append(_precision(scores[repeat, chosen], has[chosen]))
        f1s.append(_f1(tagged[repeat, chosen], has[chosen]))
    return Expectation(
        average_precision=float(np.mean([_precision(each, has) for each in scores])),
        spread=float(np.std(precisions)),
        f1=float(np.mean([_f1(each, has) for each in tagged])),
        f1_spread=float(np.std(f1s)),
        before=None if before is None else _precision(before, has),
        with_half=None if halves is None else float(np.mean([_precision(each, has) for each in halves])),
    )


def _precision(scores: NDArray, has: NDArray[np.bool_]) -> float:
    return float(average_precisions(scores[:, None], has[:, None].astype(np.float32))[0])


def _f1(tagged: NDArray[np.bool_], has: NDArray[np.bool_]) -> float:
    hits = (tagged & has).sum()
    return f1_score(hits / max(tagged.sum(), 1), hits / has.sum())
