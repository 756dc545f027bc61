"""The answers of /v1/tag and /v1/tag:batch, from a model's scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from labelwise.image import ImageError
from labelwise.tagging import Choice, Tag
from serving.gateway.problems import PROBLEMS, GatewayError
from serving.gateway.requests.query import TagQuery

_ASSUMED = "What had to be assumed to show the photo, one sentence each, such as that its colour profile is broken."
PhotoNotes = Annotated[list[str] | None, Field(description=_ASSUMED)]


@dataclass(kw_only=True)  # not a model of pydantic, which would check what we made ourselves
class TagAnswer:
    """`tags` are the labels whose score reaches their threshold, highest first."""

    model: str
    version: Annotated[int, Field(description="The version that answered.")]
    tags: list[Tag]
    scores: Annotated[list[Tag] | None, Field(description="With `scores=all`: every label, highest first.")] = None
    notes: PhotoNotes = None
    request_id: str


class ItemError(BaseModel):
    """What is wrong with one photo, in the words of a problem."""

    code: str
    title: str
    status: int = Field(description="What /v1/tag would have answered with.")
    detail: str


class BatchItem(BaseModel):
    """One photo: `tags`, or `error` in their place."""

    id: str = Field(description="As it was sent; of a form the file's name, or its place where names lack or repeat.")
    tags: list[Tag] | None = None
    scores: list[Tag] | None = None
    notes: PhotoNotes = None
    error: ItemError | None = None


class BatchAnswer(BaseModel):
    """`results` are in the order of the photos."""

    model: str
    version: int
    results: list[BatchItem]
    request_id: str


@dataclass(frozen=True)
class ScoredPhoto:
    """One photo's scores [l], and the decoder's notes about it."""

    scores: NDArray[np.float32]
    notes: Sequence[str] = ()


PhotoResult = ScoredPhoto | ImageError | GatewayError  # of one photo of a batch


def make_answer(choice: Choice, scored: ScoredPhoto, query: TagQuery, request_id: str) -> TagAnswer:
    """One photo's scores -> the answer to `query`."""
    spec = choice.spec
    return TagAnswer(model=spec.name, version=spec.version, request_id=request_id, **_tags(choice, scored, query))


def make_batch_answer(
    choice: Choice, ids: Sequence[str], results: Sequence[PhotoResult], query: TagQuery, request_id: str
) -> BatchAnswer:
    """The scores or the error of each photo -> the answer to `query`."""
    items = [
        BatchItem(id=id, error=_item_error(result))
        if isinstance(result, Exception)
        else BatchItem(id=id, **_tags(choice, result, query))
        for id, result in zip(ids, results, strict=True)
    ]
    return BatchAnswer(model=choice.spec.name, version=choice.spec.version, results=items, request_id=request_id)


def _tags(choice: Choice, scored: ScoredPhoto, query: TagQuery) -> dict[str, Any]:
    """The fields `tags` and `notes` and, if they are asked for, `scores`."""
    fields = {"tags": choice.tags(scored.scores), "notes": list(scored.notes) or None}
    if query.scores == "tags":
        return fields
    require_numbers(scored.scores)
    return fields | {"scores": choice.ranked(scored.scores)}


def require_numbers(scores: NDArray[np.float32]) -> None:
    """Raises GatewayError for a score that JSON cannot hold."""
    if not np.isfinite(scores).all():
        raise GatewayError("engine_failed", "The model gave a score that is not a number.")


def _item_error(error: Exception) -> ItemError:
    assert isinstance(error, ImageError | GatewayError)
    status, title = PROBLEMS[error.code]
    return ItemError(code=error.code, title=title, status=status, detail=str(error))
