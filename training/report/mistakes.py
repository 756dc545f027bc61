"""The worst mistakes: which they are, and their pictures with the attention of the label in question."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from labelwise.image import load_pixels, open_rgb
from labelwise.spec import ImageSpec, TaggerSpec
from training.data import ABSENT, PRESENT, LabelledPhotos
from training.report.scoring import attention_maps

SHOWN = 12

_SIDE = 288  # of a picture's longer side, in pixels: sharp at half of that on a screen of double density
_QUALITY = 80
_HEAT = colormaps["inferno"]


@dataclass(frozen=True)
class Mistake:
    """One wrong answer: pictures are data URLs, `overlay` is None for a model without attention."""

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
class Mistakes:
    """`count` of all of one kind, and the worst of them, the worst first."""

    count: int
    worst: list[Mistake]


def find_mistakes(
    model: nn.Module, spec: TaggerSpec, photos: LabelledPhotos, scores: NDArray[np.float32]
) -> tuple[Mistakes, Mistakes]:
    """Missed labels and false alarms among `scores` [n, l]; the worst lie furthest from their threshold in log-odds."""
    thresholds = np.array(spec.thresholds)
    raised = scores >= thresholds
    distance = np.abs(_log_odds(scores) - _log_odds(thresholds))
    missed, alarms = (photos.targets == PRESENT) & ~raised, (photos.targets == ABSENT) & raised
    return tuple(
        Mistakes(int(wrong.sum()), _show(model, spec, photos, scores, _furthest(wrong, distance)))
        for wrong in (missed, alarms)
    )


def _log_odds(probability: NDArray) -> NDArray[np.float64]:
    clipped = np.clip(probability.astype(np.float64), 1e-7, 1 - 1e-7)
    return np.log(clipped / (1 - clipped))


def _furthest(wrong: NDArray[np.bool_], distance: NDArray[np.float64]) -> list[tuple[int, int]]:
    places = np.argwhere(wrong)
    order = np.argsort(-distance[wrong], kind="stable")[:SHOWN]
    return [(int(row), int(label)) for row, label in places[order]]


def _show(
    model: nn.Module,
    spec: TaggerSpec,
    photos: LabelledPhotos,
    scores: NDArray[np.float32],
    places: list[tuple[int, int]],
) -> list[Mistake]:
    files = [photos.files[row] for row, _ in places]
    maps = attention_maps(model, files, spec.image, [label for _, label in places]) or [None] * len(places)
    mistakes = []
    for file, (row, label), attention in zip(files, places, maps, strict=True):
        photo = _load_for_display(file, spec.image)
        mistakes.append(
            Mistake(
                label=spec.labels[label],
                score=float(scores[row, label]),
                threshold=spec.thresholds[label],
                file=file.name,
                labelled=tuple(spec.labels[other] for other in np.flatnonzero(photos.targets[row] == PRESENT)),
                photo=_data_url(photo),
                overlay=None if attention is None else _data_url(_overlay(photo, attention)),
                width=photo.width,
                height=photo.height,
            )
        )
    return mistakes


def _load_for_display(file: Path, image: ImageSpec) -> Image.Image:
    """What the model sees of a photo, in the photo's own proportions."""
    data = file.read_bytes()
    width, height = (image.width, image.height) if image.resize == "crop" else open_rgb(data, draft_side=_SIDE).size
    scale = _SIDE / max(width, height)
    size = max(1, round(height * scale)), max(1, round(width * scale))
    return Image.fromarray(load_pixels(data, *size, image.resize, image.interpolation))


def _overlay(photo: Image.Image, attention: NDArray[np.float32]) -> Image.Image:
    """The photo in dim grey under a heat map of `attention` [th, tw], stretched between its least and its most."""
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
