"""The one rule from scores to tags, and the choice of labels, thresholds and a limit that goes with it.

A score is rounded to DIGITS and then compared: its label is a tag if the score is at least the label's threshold. Tags
are ordered by score, highest first; labels of equal score keep the model's order. tests/labelwise/tagging_cases.json
holds the cases that every caller follows, and serving/page/thresholds.js with them.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import compress, count
from math import isfinite
from numbers import Integral, Real
from operator import ge
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from labelwise.errors import LabelwiseError
from labelwise.label_names import some
from labelwise.spec import TaggerSpec

DIGITS = 6  # engines and batch sizes differ only in what lies further back
_SCALE = 10.0**DIGITS

Threshold = float | Mapping[str, float] | None  # one for all labels, one for each of some, or the model's own


class ChoiceError(LabelwiseError):
    """What was asked for cannot be chosen; the message begins with the argument at fault."""


class UnknownLabels(ChoiceError):
    """The model has no such labels."""


@dataclass(frozen=True)
class Tag:  # without a docstring, which would become a part of the gateway's OpenAPI document
    label: str
    score: Annotated[float, Field(ge=0, le=1)]
    threshold: Annotated[float, Field(ge=0, le=1, description="The score from which this label counts as a tag here.")]

    @property
    def is_tag(self) -> bool:
        return self.score >= self.threshold


def judge(
    scores: NDArray[Any], thresholds: NDArray[np.float64] | float
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """scores [..., l], thresholds [l] -> the rounded scores, and which of them are tags. NaN is never a tag."""
    # What `round` does, without its detours, which are slow for the few scores of one photo.
    values = np.rint(np.multiply(scores, _SCALE, dtype=np.float64)) / _SCALE
    return values, values >= thresholds


def rounded(score: float) -> float:
    """One score, rounded as `judge` does it. A few are faster one by one: array operations begin slowly."""
    return round(score * _SCALE) / _SCALE if isfinite(score) else score


def best_first(values: NDArray[np.float64], places: NDArray[np.intp]) -> NDArray[np.intp]:
    """`places` of labels in the model's order, sorted by `values` [l], the rounded scores."""
    if len(places) < 2:  # as for most photos
        return places
    ranks: NDArray[np.intp] = (-values[places]).argsort(kind="stable")
    return places[ranks]


@dataclass(frozen=True, eq=False)
class Choice:
    """Which labels are asked about, from which score on each is a tag, and how many tags are wanted at most.

    `places` are those of the chosen labels in the model's order. `thresholds` [l] is infinite for all other labels.
    `named` tells labels that were chosen by name from all labels of the model.
    """

    spec: TaggerSpec
    places: NDArray[np.intp]
    thresholds: NDArray[np.float64]
    top_k: int | None
    named: bool

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(self.spec.labels[place] for place in self.places)

    def tags(self, scores: NDArray[np.float32]) -> list[Tag]:
        """scores [l] of one photo -> its tags, at most `top_k`."""
        labels, tags = self.spec.labels, []
        # A list, because the first operations on an array after a run of the model take longer than hundreds of labels.
        for place in compress(count(), map(ge, scores.tolist(), self._nearly)):
            score, threshold = rounded(scores.item(place)), self.thresholds.item(place)
            if score >= threshold:
                tags.append(Tag(labels[place], score, threshold))
        if len(tags) > 1:  # unlike for most photos
            tags.sort(key=lambda tag: -tag.score)
        return tags[: self.top_k]

    @cached_property
    def _nearly(self) -> list[float]:
        """Scores below the thresholds by more than rounding changes a score."""
        nearly: list[float] = (self.thresholds - 1 / _SCALE).tolist()
        return nearly

    def ranked(self, scores: NDArray[np.float32]) -> list[Tag]:
        """scores [l] of one photo -> every chosen label, tag or not."""
        values, _ = judge(scores, self.thresholds)
        return self._at(best_first(values, self.places), values)

    def explained(self, scores: NDArray[np.float32]) -> tuple[NDArray[np.intp], list[Tag]]:
        """scores [l] of one photo -> the places and the scores of what to explain, at most `top_k`.

        That is its tags or, if labels were named, exactly those.
        """
        values, is_tag = judge(scores, self.thresholds)
        places = best_first(values, self.places if self.named else is_tag.nonzero()[0])[: self.top_k]
        return places, self._at(places, values)

    def _at(self, places: NDArray[np.intp], values: NDArray[np.float64]) -> list[Tag]:
        labels, thresholds = self.spec.labels, self.thresholds
        return [Tag(labels[place], values.item(place), thresholds.item(place)) for place in places.tolist()]


def choose(
    spec: TaggerSpec,
    labels: Collection[str] | None = None,
    exclude: Collection[str] | None = None,
    threshold: Threshold = None,
    top_k: int | None = None,
) -> Choice:
    """All labels of the model or `labels`, without `exclude`, at `threshold` or the model's own.

    Raises UnknownLabels for labels that the model does not have, ChoiceError for a number that is out of range or if
    no label is left.
    """
    if top_k is not None and not (isinstance(top_k, Integral) and top_k >= 1):
        raise ChoiceError(f"top_k: must be a whole number, at least 1, not {top_k!r}")
    given = threshold if isinstance(threshold, Mapping) else {}
    for field, names in (("labels", labels), ("exclude", exclude), ("threshold", given)):
        _require_known(spec, field, names or ())
    thresholds = _thresholds(spec, threshold)
    places = np.arange(len(spec.labels))
    if labels is not None or exclude:
        wanted = set(spec.labels if labels is None else labels).difference(exclude or ())
        chosen = np.array([label in wanted for label in spec.labels])
        places, thresholds = places[chosen], np.where(chosen, thresholds, np.inf)
    if not len(places):
        raise ChoiceError("exclude: this leaves none of the labels")
    return Choice(spec, places, thresholds, top_k, named=labels is not None)


def _require_known(spec: TaggerSpec, field: str, names: Collection[str]) -> None:
    if names and (unknown := sorted(set(names).difference(spec.labels))):
        raise UnknownLabels(f"{field}: {spec.name} has no such label: {some(unknown)}")


def _thresholds(spec: TaggerSpec, threshold: Threshold) -> NDArray[np.float64]:
    if threshold is not None and not isinstance(threshold, Mapping):
        return np.full(len(spec.labels), _checked(threshold))
    thresholds = np.array(spec.thresholds)
    if threshold:
        place_of = {label: place for place, label in enumerate(spec.labels)}
        for label, value in threshold.items():
            thresholds[place_of[label]] = _checked(value)
    return thresholds


def _checked(threshold: float) -> float:
    if not (isinstance(threshold, Real) and 0 <= threshold <= 1):
        raise ChoiceError(f"threshold: must be a number from 0 to 1, not {threshold!r}")
    return float(threshold)
