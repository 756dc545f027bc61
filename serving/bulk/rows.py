"""One row of the output: a photo, and its scores or its error."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from labelwise.spec import TaggerSpec
from labelwise.tagging import best_first, judge

_WEIGHTS_DIGITS = 12  # enough to tell two models

_IN_THE_BYTES, _MISSING_PLUGIN = "image_", "image_format_unsupported"


def is_permanent(error: str) -> bool:
    """Whether the error stays until the photo changes. Others may pass: a disk or a plugin for HEIC is back."""
    return error.startswith(_IN_THE_BYTES) and error != _MISSING_PLUGIN


@dataclass(frozen=True, slots=True)
class Row:
    """`size` in bytes and `mtime_ns` of the photo, None if it was not read; scores float32 [l].

    `embeddings` are those to keep, as the bytes of float16 [p] by the place of their label.
    """

    path: str
    size: int | None
    mtime_ns: int | None
    scores: NDArray[np.float32] | None = None
    error: str | None = None
    detail: str | None = None
    embeddings: Mapping[int, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Identity:
    """The model that made an output; rows of another model do not belong in it. None is what the output does not tell.

    `weights` tell models of one name and version apart: a new repository counts versions from 1 again.
    """

    model: str
    version: int
    labels: tuple[str, ...] | None
    weights: str | None

    @classmethod
    def of(cls, spec: TaggerSpec) -> "Identity":
        return cls(spec.name, spec.version, spec.labels, weights_of(spec))

    def unlike(self, other: "Identity") -> str | None:
        """What to call `other` if it is another model, judged by what both tell."""
        if (self.model, self.version) != (other.model, other.version):
            return str(other)
        for name in ("labels", "weights"):
            values = {getattr(self, name), getattr(other, name)} - {None}
            if len(values) > 1:
                return f"a {other} with other {name}"
        return None

    def __str__(self) -> str:
        return f"{self.model} version {self.version}"


@dataclass(frozen=True)
class Page:
    """Rows as columns, ready to be written: scores float64 [n, l] rounded, NaN for those that are not written."""

    rows: Sequence[Row]
    scores: NDArray[np.float64]
    tags: list[list[str] | None]


class StoredRow(NamedTuple):
    """A row that was read back from an output, with its scores by label."""

    made_by: Identity  # without labels if the format names only those that have a score
    row: Row  # without scores
    told: dict[str, float] | None

    @classmethod
    def of(cls, entry: Mapping[str, Any], labels: tuple[str, ...] | None) -> "StoredRow":
        """From the columns of an output by name. Raises KeyError if one is missing."""
        row = Row(entry["path"], entry["size"], entry["mtime_ns"], None, entry["error"], entry["detail"])
        made_by = Identity(entry["model"], entry["version"], labels, entry.get("weights"))  # older ones lack `weights`
        return cls(made_by, row, entry["scores"])


def make_page(rows: Sequence[Row], spec: TaggerSpec, every_score: bool) -> Page:
    """The rows with their tags, highest first; without `every_score` only tags have a score."""
    missing = np.full(len(spec.labels), np.nan, np.float32)
    scores = np.stack([missing if row.scores is None else row.scores for row in rows])
    values, is_tag = judge(scores, np.array(spec.thresholds))  # n l
    tags = [None if row.scores is None else _labels(spec, values[at], is_tag[at]) for at, row in enumerate(rows)]
    return Page(rows, values if every_score else np.where(is_tag, values, np.nan), tags)


def weights_of(spec: TaggerSpec) -> str:
    """The first digits of the weights' SHA-256."""
    return spec.weights_sha256[:_WEIGHTS_DIGITS]


def tag_places(scores: NDArray[np.float32], spec: TaggerSpec) -> list[int]:
    """scores [l] -> the places of the labels that reach their threshold, highest first."""
    values, is_tag = judge(scores, np.array(spec.thresholds))
    places: list[int] = best_first(values, is_tag.nonzero()[0]).tolist()
    return places


def tags_of(scores: NDArray[np.float32], spec: TaggerSpec) -> list[str]:
    """scores [l] -> the labels that reach their threshold, highest first."""
    return _labels(spec, *judge(scores, np.array(spec.thresholds)))


def _labels(spec: TaggerSpec, values: NDArray[np.float64], is_tag: NDArray[np.bool_]) -> list[str]:
    return [spec.labels[place] for place in best_first(values, is_tag.nonzero()[0])]
