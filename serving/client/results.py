"""The client's results: one for each photo, with an error if the photo has none."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from labelwise.tagging import Tag
from serving.errors import PhotoError


@dataclass(frozen=True)
class CallResult:
    """`id` is the path as it was given; a photo without a path has its place in the input, from 0.

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
