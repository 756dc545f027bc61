"""The calls of the client: the outputs that each needs, and the result that the outputs of one photo become."""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from labelwise.attention import as_stored, locate
from labelwise.label_names import some
from labelwise.spec import TaggerSpec
from labelwise.tagging import Choice, ChoiceError, Tag, Threshold, UnknownLabels, choose
from serving.errors import ClientError, OutputNotOffered, PhotoError

Coordinates = Literal["upright", "stored"]

# Output name -> one photo's output. SEEN_PHOTO comes with attention, NOTES if the decoder's notes are known.
PhotoOutputs = dict[str, NDArray[Any]]
SEEN_PHOTO = "photo"  # [3]: the upright photo's width and height, and its EXIF orientation
NOTES = "notes"  # []: one text, a line per sentence

R = TypeVar("R")


@dataclass(frozen=True)
class CallResult:
    """The result for one photo, with an error if the photo has none.

    `id` is the path as it was given; a photo without a path has its place in the input, from 0.

    `notes` say what had to be assumed to show the photo, such as that its colour profile is broken. There are none from
    a Triton that decodes the photos itself.
    """

    id: str | int
    model: str
    version: int
    error: PhotoError | None = field(default=None, kw_only=True)
    notes: tuple[str, ...] = field(default=(), kw_only=True)


@dataclass(frozen=True)
class TagResult(CallResult):
    """`tags` are the labels whose score reaches their threshold, highest first; `scores` has each label asked about."""

    tags: tuple[Tag, ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, eq=False)
class EmbedResult(CallResult):
    """`embeddings` are float32 [l, p], one row of length 1 per label in `labels`; None if there is an error."""

    labels: tuple[str, ...] = ()
    embeddings: NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False)
class SeenLabel(Tag):
    """`attention` is float32 [rows, columns], rows from top to bottom; all of it sums to 1."""

    attention: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ExplainResult(CallResult):
    """Where each label was seen, highest score first.

    `size` is the photo's (width, height), `box` the part of it that the grid covers (left, top, right, bottom). Both
    are in upright pixels, as a viewer shows the photo, unless `stored` ones were asked for. `orientation` is the file's
    EXIF orientation, 1 to 8, which upright pixels have applied.
    """

    labels: tuple[SeenLabel, ...] = ()
    size: tuple[int, int] = (0, 0)
    box: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    orientation: int = 1


@dataclass(frozen=True)
class Call(Generic[R]):
    """A method of the client: the outputs that it needs, and its result from a photo's id and outputs."""

    outputs: tuple[str, ...]
    result: Callable[[str | int, PhotoOutputs | PhotoError], R]


def noted(notes: Iterable[str]) -> NDArray[Any]:
    """The decoder's notes about one photo as one of its outputs."""
    return np.array("\n".join(notes))


def notes_of(outputs: PhotoOutputs) -> tuple[str, ...]:
    return tuple(str(outputs[NOTES]).splitlines()) if NOTES in outputs else ()


def chosen(
    spec: TaggerSpec,
    labels: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    threshold: Threshold = None,
    top_k: int | None = None,
) -> Choice:
    """Raises ClientError for labels that the model does not have, and for numbers out of range."""
    try:
        return choose(spec, _listed(labels), _listed(exclude), threshold, top_k)
    except UnknownLabels as error:
        raise ClientError(f"{error}; it has {some(spec.labels)}.") from error
    except ChoiceError as error:
        raise ClientError(f"{error}.") from error


def _listed(labels: Sequence[str] | None) -> tuple[str, ...] | None:
    if labels is None:
        return None
    listed = tuple(labels)  # it may be a generator
    if isinstance(labels, str) or not all(isinstance(label, str) for label in listed):
        raise ClientError("labels and exclude must be lists of labels.")
    return listed


def tagging(choice: Choice) -> Call[TagResult]:
    return Call(("scores",), functools.partial(_tag_result, choice))


def embedding(choice: Choice) -> Call[EmbedResult]:
    """Raises OutputNotOffered if the model has no embeddings."""
    _require(choice.spec, "embeddings")
    return Call(("embeddings",), functools.partial(_embed_result, choice))


def explaining(choice: Choice, coordinates: Coordinates = "upright") -> Call[ExplainResult]:
    """Raises OutputNotOffered if the model has no attention, ClientError for other coordinates."""
    _require(choice.spec, "attention")
    if coordinates not in ("upright", "stored"):
        raise ClientError(f"coordinates must be 'upright' or 'stored', not {coordinates!r}.")
    return Call(("scores", "attention"), functools.partial(_explain_result, choice, coordinates))


def _tag_result(choice: Choice, photo: str | int, outputs: PhotoOutputs | PhotoError) -> TagResult:
    model = (choice.spec.name, choice.spec.version)
    if isinstance(outputs, PhotoError):
        return TagResult(photo, *model, error=outputs)
    scores = {tag.label: tag.score for tag in choice.ranked(outputs["scores"])}
    return TagResult(photo, *model, tuple(choice.tags(outputs["scores"])), scores, notes=notes_of(outputs))


def _embed_result(choice: Choice, photo: str | int, outputs: PhotoOutputs | PhotoError) -> EmbedResult:
    model = (choice.spec.name, choice.spec.version)
    if isinstance(outputs, PhotoError):
        return EmbedResult(photo, *model, error=outputs)
    return EmbedResult(photo, *model, choice.labels, outputs["embeddings"][choice.places], notes=notes_of(outputs))


def _explain_result(
    choice: Choice, coordinates: Coordinates, photo: str | int, outputs: PhotoOutputs | PhotoError
) -> ExplainResult:
    spec = choice.spec
    if isinstance(outputs, PhotoError):
        return ExplainResult(photo, spec.name, spec.version, error=outputs)
    places, tags = choice.explained(outputs["scores"])
    width, height, orientation = map(int, outputs[SEEN_PHOTO])
    seen = locate(outputs["attention"][places], (width, height), spec.image)
    if coordinates == "stored":
        seen = as_stored(seen, orientation)
    labels = tuple(SeenLabel(**vars(tag), attention=grid) for tag, grid in zip(tags, seen.maps, strict=True))
    return ExplainResult(
        *(photo, spec.name, spec.version, labels, seen.size, seen.box, orientation), notes=notes_of(outputs)
    )


def _require(spec: TaggerSpec, output: str) -> None:
    if output not in spec.output_names:
        raise OutputNotOffered(f"{spec.name} has no {output}; it offers {', '.join(spec.output_names)}.")
