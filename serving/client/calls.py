"""What a call is about: which labels, from which score on each is a tag, and how a row of outputs becomes a result."""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from labelwise.attention import as_stored, locate
from labelwise.spec import TaggerSpec
from serving.client.results import EmbedResult, ExplainResult, SeenLabel, Tag, TagResult
from serving.errors import ClientError, OutputNotOffered, PhotoError

Threshold = float | Mapping[str, float] | None
Coordinates = Literal["upright", "stored"]

# Output name -> that of one photo; if attention was asked for also SEEN_PHOTO, and NOTES if the decoder's are known.
Row = dict[str, NDArray[Any]]
SEEN_PHOTO = "photo"  # [3]: the upright photo's width and height, and its EXIF orientation
NOTES = "notes"  # []: one text, a line for each sentence

R = TypeVar("R")

# Scores differ between engines further back than this; the gateway rounds alike.
_DIGITS = 6


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
        labels, exclude = _labels(labels), _labels(exclude)
        if top_k is not None and not (isinstance(top_k, Integral) and top_k >= 1):
            raise ClientError(f"top_k is {top_k!r} and must be a whole number, at least 1.")
        changed = dict(threshold) if isinstance(threshold, Mapping) else {}
        if unknown := sorted({*(labels or ()), *(exclude or ()), *changed}.difference(spec.labels)):
            raise ClientError(f"{spec.name} has no such label: {', '.join(unknown)}; it has {', '.join(spec.labels)}.")
        if threshold is not None and not isinstance(threshold, Mapping):
            changed = dict.fromkeys(spec.labels, threshold)
        if wrong := [value for value in changed.values() if not (isinstance(value, Real) and 0 <= value <= 1)]:
            raise ClientError(f"A threshold is a number from 0 to 1, not {wrong[0]!r}.")
        wanted = set(spec.labels if labels is None else labels).difference(exclude or ())
        if not wanted:
            raise ClientError("labels and exclude together leave no label.")
        return cls(
            spec,
            tuple(place for place, label in enumerate(spec.labels) if label in wanted),
            tuple(float(changed.get(label, own)) for label, own in zip(spec.labels, spec.thresholds, strict=True)),
            top_k,
        )

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(self.spec.labels[place] for place in self.places)

    def tag_result(self, photo: str | int, row: Row | PhotoError) -> TagResult:
        if isinstance(row, PhotoError):
            return TagResult(photo, self.spec.name, self.spec.version, error=row)
        rated = [tag for _, tag in self._rated(row)]
        tags = tuple([tag for tag in rated if _is_tag(tag)][: self.top_k])
        scores = {tag.label: tag.score for tag in rated}
        return TagResult(photo, self.spec.name, self.spec.version, tags, scores, notes=notes_of(row))

    def embed_result(self, photo: str | int, row: Row | PhotoError) -> EmbedResult:
        if isinstance(row, PhotoError):
            return EmbedResult(photo, self.spec.name, self.spec.version, error=row)
        chosen = row["embeddings"][list(self.places)]
        return EmbedResult(photo, self.spec.name, self.spec.version, self.labels, chosen, notes=notes_of(row))

    def explain_result(
        self, named: bool, coordinates: Coordinates, photo: str | int, row: Row | PhotoError
    ) -> ExplainResult:
        """Of the tags, or of all chosen labels where they were `named`."""
        if isinstance(row, PhotoError):
            return ExplainResult(photo, self.spec.name, self.spec.version, error=row)
        entries = [entry for entry in self._rated(row) if named or _is_tag(entry[1])][: self.top_k]
        width, height, orientation = map(int, row[SEEN_PHOTO])
        image, maps = self.spec.image, row["attention"][[place for place, _ in entries]]
        seen = locate(maps, (width, height), image.resize, image.width / image.height)
        if coordinates == "stored":
            seen = as_stored(seen, orientation)
        labels = tuple(
            SeenLabel(tag.label, tag.score, tag.threshold, grid)
            for (_, tag), grid in zip(entries, seen.maps, strict=True)
        )
        return ExplainResult(
            *(photo, self.spec.name, self.spec.version, labels, seen.size, seen.box, orientation), notes=notes_of(row)
        )

    def _rated(self, row: Row) -> list[tuple[int, Tag]]:
        """Each chosen label with its place in the model's order, highest score first."""
        rated = [
            (place, Tag(self.spec.labels[place], round(float(row["scores"][place]), _DIGITS), self.thresholds[place]))
            for place in self.places
        ]
        return sorted(rated, key=lambda entry: -entry[1].score)


def noted(notes: Iterable[str]) -> NDArray[Any]:
    """The decoder's notes about one photo, as a row of outputs has them."""
    return np.array("\n".join(notes))


def notes_of(row: Row) -> tuple[str, ...]:
    return tuple(str(row[NOTES]).splitlines()) if NOTES in row else ()


def _labels(labels: Sequence[str] | None) -> tuple[str, ...] | None:
    if labels is None:
        return None
    listed = tuple(labels)  # it may be a generator
    if isinstance(labels, str) or not all(isinstance(label, str) for label in listed):
        raise ClientError("labels and exclude are lists of labels.")
    return listed


def _is_tag(tag: Tag) -> bool:
    return tag.score >= tag.threshold


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


def explaining(
    spec: TaggerSpec,
    labels: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    threshold: Threshold = None,
    top_k: int | None = None,
    coordinates: Coordinates = "upright",
) -> Call[ExplainResult]:
    """OutputNotOffered where the model has no attention."""
    _require(spec, "attention")
    if coordinates not in ("upright", "stored"):
        raise ClientError(f"coordinates are 'upright' or 'stored', not {coordinates!r}.")
    choice = Choice.of(spec, labels, exclude, threshold, top_k)
    return Call(("scores", "attention"), functools.partial(choice.explain_result, labels is not None, coordinates))


def _require(spec: TaggerSpec, output: str) -> None:
    if output not in spec.output_names:
        raise OutputNotOffered(f"{spec.name} has no {output}; it offers {', '.join(spec.output_names)}.")
