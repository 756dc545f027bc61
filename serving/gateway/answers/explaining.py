"""The answer of /v1/explain: where in the photo each label was seen, from a model's attention."""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from labelwise.attention import Maps, as_stored, locate
from labelwise.image import Photo
from labelwise.tagging import Choice, Tag
from serving.gateway.answers.tagging import PhotoNotes, require_numbers
from serving.gateway.requests.query import ThresholdQuery

_DIGITS = 6  # of a value of an attention map


class ExplainQuery(ThresholdQuery):
    """The query string of /v1/explain: by default of the labels that are tags, with `labels` of exactly those."""

    coordinates: Literal["upright", "stored"] = Field(
        "upright", description="As a viewer shows the photo, or in the pixel grid that the file itself stores."
    )


class ImageInfo(BaseModel):
    """The photo, in pixels of the chosen coordinates."""

    width: int
    height: int
    orientation: int = Field(ge=1, le=8, description="The file's EXIF orientation, which `upright` has applied.")


class Grid(BaseModel):
    """`box` is the part of the photo that the grid covers: left, top, right, bottom, in pixels."""

    height: int
    width: int
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class SeenLabel(Tag):
    attention: Annotated[list[list[float]], Field(description="Rows from top to bottom; all of it sums to 1.")]


class ExplainAnswer(BaseModel):
    """Where each label was seen, highest score first."""

    model: str
    version: int
    image: ImageInfo
    grid: Grid
    labels: list[SeenLabel]
    notes: PhotoNotes = None
    request_id: str


def make_explanation(
    choice: Choice, scores: NDArray[np.float32], attention: Maps, photo: Photo, query: ExplainQuery, request_id: str
) -> ExplainAnswer:
    """scores [l] and attention [l, rows, columns] of one photo -> the answer to `query`."""
    require_numbers(scores)
    places, tags = choice.explained(scores)
    seen = locate(attention[places], photo.size, choice.spec.image)
    if query.coordinates == "stored":
        seen = as_stored(seen, photo.orientation)
    maps = np.round(seen.maps.astype(np.float64), _DIGITS).tolist()
    width, height = seen.size
    return ExplainAnswer(
        model=choice.spec.name,
        version=choice.spec.version,
        image=ImageInfo(width=width, height=height, orientation=photo.orientation),
        grid=Grid(height=seen.maps.shape[1], width=seen.maps.shape[2], box=seen.box),
        labels=[SeenLabel(**vars(tag), attention=grid) for tag, grid in zip(tags, maps, strict=True)],
        notes=list(photo.notes) or None,
        request_id=request_id,
    )
