"""From a model's scores to the tags a client asked for; plain data in, plain data out."""

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from labelwise.spec import TaggerSpec
from serving.errors import GatewayError

# Scores differ between engines further back than this.
_DIGITS = 6


class TagQuery(BaseModel):
    """The query string of /v1/tag."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(None, description="Which model; needed only where there is more than one.")
    version: int | None = Field(None, ge=1, description="Which version; by default the newest.")
    top_k: int | None = Field(None, ge=1, description="At most this many tags, the highest scores first.")
    threshold: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = Field(
        None, description="One threshold for all labels, in place of the model's own."
    )
    labels: str | None = Field(None, description="Only these labels, separated by commas.")
    scores: Literal["tags", "all"] = Field("tags", description="`all` adds every label's score, tag or not.")


class Tag(BaseModel):
    label: str
    score: float = Field(ge=0, le=1)
    threshold: float = Field(ge=0, le=1, description="The score from which this label counts as a tag here.")


class TagAnswer(BaseModel):
    """`tags` are the labels whose score reaches their threshold, highest first."""

    model: str
    version: int
    tags: list[Tag]
    scores: list[Tag] | None = Field(None, description="With `scores=all`: every label, highest first.")
    request_id: str


def make_answer(spec: TaggerSpec, scores: NDArray[np.float32], query: TagQuery, request_id: str) -> TagAnswer:
    """scores [l] of one photo -> the answer to `query`. Raises GatewayError for labels the model does not have."""
    wanted = wanted_labels(spec, query)
    every = [
        Tag(
            label=label,
            score=round(float(score), _DIGITS),
            threshold=threshold if query.threshold is None else query.threshold,
        )
        for label, score, threshold in zip(spec.labels, scores, spec.thresholds, strict=True)
        if label in wanted
    ]
    every.sort(key=lambda tag: -tag.score)
    tags = [tag for tag in every if tag.score >= tag.threshold][: query.top_k]
    return TagAnswer(
        model=spec.name,
        version=spec.version,
        tags=tags,
        scores=every if query.scores == "all" else None,
        request_id=request_id,
    )


def wanted_labels(spec: TaggerSpec, query: TagQuery) -> set[str]:
    """The labels that `query` asks about. GatewayError for one the model does not have."""
    if query.labels is None:
        return set(spec.labels)
    wanted = {label.strip() for label in query.labels.split(",") if label.strip()}
    unknown = sorted(wanted.difference(spec.labels))
    if unknown or not wanted:
        named = ", ".join(unknown) or "none given"
        raise GatewayError("invalid_request", f"labels: {spec.name} has no such label: {named}; see /v1/models.")
    return wanted
