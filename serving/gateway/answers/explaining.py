"""From a model's attention to where in the photo each label was seen; plain data in, plain data out."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel, Field

from labelwise.attention import Located, Maps, as_stored, locate
from labelwise.image import Photo
from labelwise.spec import TaggerSpec
from serving.gateway.answers.tagging import Notes, Scores, Tag, is_tag, ranked
from serving.gateway.requests.query import Choice, ThresholdQuery

_DIGITS = 6


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


class SeenLabel(Tag):
    attention: list[list[float]] = Field(description="Rows from top to bottom; all of it sums to 1.")


class ExplainAnswer(BaseModel):
    """Where each label was seen, highest score first."""

    model: str
    version: int
    image: ImageInfo
    grid: Grid
    labels: list[SeenLabel]
    notes: Notes = None
    request_id: str


def asked_tags(choice: Choice, scores: Scores, query: ExplainQuery) -> list[tuple[int, Tag]]:
    """scores [l] -> what is to be explained, highest score first, each with its index in the model's order."""
    entries = ranked(choice, scores)
    if query.labels is None:
        entries = [entry for entry in entries if is_tag(entry[1])]
    return entries[: query.top_k]


def located(spec: TaggerSpec, attention: Maps, photo: Photo, indices: Sequence[int]) -> Located:
    """attention [l, rows, columns] -> that of the labels `indices`, in the upright photo's pixels."""
    image = spec.image
    return locate(attention[list(indices)], photo.size, image.resize, image.width / image.height)


def make_explanation(
    choice: Choice, scores: Scores, attention: Maps, photo: Photo, query: ExplainQuery, request_id: str
) -> ExplainAnswer:
    """scores [l] and attention [l, rows, columns] of one photo -> the answer to `query`."""
    entries = asked_tags(choice, scores, query)
    places = located(choice.spec, attention, photo, [index for index, _ in entries])
    if query.coordinates == "stored":
        places = as_stored(places, photo.orientation)
    maps = np.round(places.maps.astype(np.float64), _DIGITS).tolist()
    width, height = places.size
    return ExplainAnswer(
        model=choice.spec.name,
        version=choice.spec.version,
        image=ImageInfo(width=width, height=height, orientation=photo.orientation),
        grid=Grid(height=places.maps.shape[1], width=places.maps.shape[2], box=places.box),
        labels=[SeenLabel(**dict(tag), attention=grid) for (_, tag), grid in zip(entries, maps, strict=True)],
        notes=list(photo.notes) or None,
        request_id=request_id,
    )
