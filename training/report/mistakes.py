"""The worst mistakes, and their pictures with the attention of the label in question."""

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image

from labelwise.image import load_pixels, open_rgb
from labelwise.spec import ImageSpec, TrainedSpec
from labelwise.tagging import judge
from training.data.labelled_data import ABSENT, PRESENT, LabelledPhotos
from training.data.shard_reader import ShardedPhotos

SHOWN = 12

T = TypeVar("T")
Place = tuple[int, int]  # a photo's row and a label's index

_SIDE = 288  # pixels of the longer side: sharp at half this size on a screen of double density
_QUALITY = 80
_HEAT = colormaps["inferno"]


@dataclass(frozen=True)
class Mistake:
    """One wrong answer. Pictures are data URLs; `overlay` is None for a network without attention."""

    label: str
    score: float
    threshold: float
    file: str
    labelled: tuple[str, ...]
    photo: str
    overlay: str | None
    width: int
    height: int


@dataclass(frozen=True)
class Mistakes(Generic[T]):
    """`count` of all of one kind, and the worst of them, the worst first."""

    count: int
    worst: list[T]


def worst_mistakes(
    spec: TrainedSpec, scores: NDArray[np.float32], targets: NDArray[np.float32]
) -> tuple[Mistakes[Place], Mistakes[Place]]:
    """Missed labels and false alarms among scores [n, l]; the worst lie furthest from their threshold in log-odds."""
    thresholds = np.array(spec.thresholds)
    _, raised = judge(scores, thresholds)
    distance = np.abs(_log_odds(scores) - _log_odds(thresholds))
    missed, alarms = (targets == PRESENT) & ~raised, (targets == ABSENT) & raised
    return _worst(missed, distance), _worst(alarms, distance)


def _log_odds(probability: NDArray) -> NDArray[np.float64]:
    clipped = np.clip(probability.astype(np.float64), 1e-7, 1 - 1e-7)
    return np.log(clipped / (1 - clipped))


def _worst(wrong: NDArray[np.bool_], distance: NDArray[np.float64]) -> Mistakes[Place]:
    places = np.argwhere(wrong)
    order = np.argsort(-distance[wrong], kind="stable")[:SHOWN]
    return Mistakes(len(places), [(int(row), int(label)) for row, label in places[order]])


def show_mistakes(
    spec: TrainedSpec,
    photos: LabelledPhotos | ShardedPhotos,
    scores: NDArray[np.float32],
    attention: Mapping[tuple[int, int], NDArray[np.float32]],
) -> tuple[Mistakes[Mistake], Mistakes[Mistake]]:
    """Missed labels and false alarms among scores [n, l]; `attention` [th, tw] is by row and label, if there is any."""
    kinds = worst_mistakes(spec, scores, photos.targets)
    rows = sorted({row for kind in kinds for row, _ in kind.worst})
    encoded = {photo.row: (photo.name, photo.read()) for photo in photos.encoded(rows)}

    def show(row: int, label: int) -> Mistake:
        name, data = encoded[row]
        photo = _load_for_display(data, spec.image)
        heat = attention.get((row, label))
        return Mistake(
            label=spec.labels[label],
            score=float(scores[row, label]),
            threshold=spec.thresholds[label],
            file=name,
            labelled=tuple(spec.labels[other] for other in np.flatnonzero(photos.targets[row] == PRESENT)),
            photo=_data_url(photo),
            overlay=None if heat is None else _data_url(_overlay(photo, heat)),
            width=photo.width,
            height=photo.height,
        )

    missed, alarms = (Mistakes(kind.count, [show(*place) for place in kind.worst]) for kind in kinds)
    return missed, alarms


def _load_for_display(data: bytes, image: ImageSpec) -> Image.Image:
    """What the network sees of a photo, in the photo's own proportions."""
    width, height = (image.width, image.height) if image.resize == "crop" else open_rgb(data, draft_side=_SIDE).size
    scale = _SIDE / max(width, height)
    size = max(1, round(height * scale)), max(1, round(width * scale))
    return Image.fromarray(load_pixels(data, *size, image.resize, image.interpolation))


def _overlay(photo: Image.Image, attention: NDArray[np.float32]) -> Image.Image:
    """The photo in dim grey under a heat map of `attention` [th, tw], stretched from its minimum to its maximum."""
    stretched = (attention - attention.min()) / max(float(np.ptp(attention)), 1e-12)
    smooth = Image.fromarray(stretched.astype(np.float32)).resize(photo.size, Image.Resampling.BICUBIC)
    heat = np.clip(np.asarray(smooth), 0, 1)[..., None]  # h w 1
    grey = np.asarray(photo.convert("L"), dtype=np.float32)[..., None] * 0.6
    opacity = 0.1 + 0.7 * np.sqrt(heat)
    mixed = grey * (1 - opacity) + _HEAT(heat[..., 0])[..., :3] * 255 * opacity
    return Image.fromarray(mixed.clip(0, 255).round().astype(np.uint8))


def _data_url(picture: Image.Image) -> str:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"
