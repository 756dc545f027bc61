"""What the client answers: one frozen result for each photo, with an error in place of what could not be had."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from labelwise.spec import TaggerSpec
from serving.client.errors import ClientError, OutputNotOffered, PhotoError

Threshold = float | Mapping[str, float] | None

Row = Mapping[str, NDArray[np.float32]]  # output name -> that of one photo
R = TypeVar("R")

# Scores differ between engines further back than this; the gateway rounds alike.
_DIGITS = 6


@dataclass(frozen=True)
class Tag:
    label: str
    score: float
    threshold: float


@dataclass(frozen=True)
class Result:
    """`id` is the path as it was given, or else the photo's place in the input, from 0."""

    id: str | int
    model: str
    version: int
    error: PhotoError | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class TagResult(Result):
    """`tags` are the labels whose score reaches their threshold, highest first; `scores` has each label asked about."""

    tags: tuple[Tag, ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class EmbedResult(Result):
    """`embeddings` float32 [l, p], each row of length 1, for `labels`; none where there is an error."""

    labels: tuple[str, ...] = ()
    embeddings: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Call(Generic[R]):
    """One method of the client: the model's outputs that it needs, and its result for one photo's id and row."""

    outputs: tuple[str, ...]
    result: Callable[[str | int, Row | PhotoError], R]


@dataclass(frozen=True)
class Choice:
    """Which labels a call is about, in the model's order, and from which score on each is a tag."""

    spec: TaggerSpec
    places: tuple[int, ...]
    thresholds: tuple[float, ...]  # one for each of the model's labels
    top_k: int | None

    @classmethod
    def of(
        cls,
        spec: TaggerSpec,
        labels: Sequence[str] | None = None,
        exclude: Sequence[str] | None = None,
        threshold: Threshold = None,
        top_k: int | None = None,
    ) -> "Choice":
        """ClientError for a label that the model does not have, or a number that cannot be."""
        if isinstance(labels, str) or isinstance(exclude, str):
            raise ClientError("labels and exclude are lists of labels.")
        if top_k is not None and top_k < 1:
            raise ClientError(f"top_k is {top_k} and must be at least 1.")
        changed = dict(threshold) if isinstance(threshold, Mapping) else {}
        if unknown := sorted({*(labels or ()), *(exclude or ()), *changed}.difference(spec.labels)):
            raise ClientError(f"{spec.name} has no such label: {', '.join(unknown)}; it has {', '.join(spec.labels)}.")
        if isinstance(threshold, int | float):
            changed = dict.fromkeys(spec.labels, float(threshold))
        if wrong := [value for value in changed.values() if not 0 <= value <= 1]:
            raise ClientError(f"A threshold is a number from 0 to 1, not {wrong[0]}.")
        wanted = set(spec.labels if labels is None else labels).difference(exclude or ())
        if not wanted:
            raise ClientError("labels and exclude together leave no label.")
        return cls(
            spec,
            tuple(place for place, label in enumerate(spec.labels) if label in wanted),
            tuple(changed.get(label, own) for label, own in zip(spec.labels, spec.thresholds, strict=True)),
            top_k,
        )

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(self.spec.labels[place] for place in self.places)

    def tag_result(self, photo: str | int, row: Row | PhotoError) -> TagResult:
        if isinstance(row, PhotoError):
            return TagResult(photo, self.spec.name, self.spec.version, error=row)
        rated = [
            Tag(self.spec.labels[place], round(float(row["scores"][place]), _DIGITS), self.thresholds[place])
            for place in self.places
        ]
        rated.sort(key=lambda tag: -tag.score)
        tags = tuple([tag for tag in rated if tag.score >= tag.threshold][: self.top_k])
        return TagResult(photo, self.spec.name, self.spec.version, tags, {tag.label: tag.score for tag in rated})

    def embed_result(self, photo: str | int, row: Row | PhotoError) -> EmbedResult:
        if isinstance(row, PhotoError):
            return EmbedResult(photo, self.spec.name, self.spec.version, error=row)
        chosen = row["embeddings"][list(self.places)]
        return EmbedResult(photo, self.spec.name, self.spec.version, self.labels, chosen)


def tagging(
    spec: TaggerSpec,
    labels: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    threshold: Threshold = None,
    top_k: int | None = None,
) -> Call[TagResult]:
    """ClientError for what the model does not have."""
    return Call(("scores",), Choice.of(spec, labels, exclude, threshold, top_k).tag_result)


def embedding(
    spec: TaggerSpec, labels: Sequence[str] | None = None, exclude: Sequence[str] | None = None
) -> Call[EmbedResult]:
    """OutputNotOffered where the model has no embeddings."""
    _require(spec, "embeddings")
    return Call(("embeddings",), Choice.of(spec, labels, exclude).embed_result)


def _require(spec: TaggerSpec, output: str) -> None:
    if output not in spec.output_names:
        raise OutputNotOffered(f"{spec.name} has no {output}; it offers {', '.join(spec.output_names)}.")
