"""A procedural multi-label data set: coloured shapes on textured ground, several at once, some small, some rare."""

import csv
import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from labelwise.errors import DataError

LABELS = ("circle", "square", "triangle", "star", "ring", "stripes")
_SIDE = 96
_VAL_SHARE = 0.2
# Frequencies differ, and a ring likes the company of a star: imbalance and co-occurrence as in real label sets.
_PREVALENCE = np.array([0.45, 0.4, 0.35, 0.25, 0.15, 0.2])
_RING_WITH_STAR = 0.5


def draw_dataset(out: Path, count: int, seed: int = 0) -> None:
    """Write `count` pictures to out/images and their labels.csv with a split. DataError if `out` has one."""
    if (out / "labels.csv").exists():
        raise DataError(f"{out} already holds a data set: choose another folder.")
    (out / "images").mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        present = _draw_labels(random)
        name = f"{number:05d}.jpg"
        _draw_picture(random, present).save(out / "images" / name, quality=90)
        split = "val" if number < count * _VAL_SHARE else "train"
        rows.append([name, *(int(label in present) for label in LABELS), split])
    with (out / "labels.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([["image", *LABELS, "split"], *rows])


def _draw_labels(random: np.random.Generator) -> list[str]:
    prevalence = _PREVALENCE.copy()
    chosen = random.random(len(LABELS)) < prevalence
    if chosen[LABELS.index("star")]:
        chosen[LABELS.index("ring")] |= random.random() < _RING_WITH_STAR
    return [label for label, present in zip(LABELS, chosen, strict=True) if present]


def _draw_picture(random: np.random.Generator, labels: list[str]) -> Image.Image:
    ground = random.integers(60, 200, (6, 6, 3), dtype=np.uint8)
    picture = Image.fromarray(ground).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    for label in random.permutation(labels):
        radius = float(random.uniform(8, 20))
        x, y = random.uniform(radius, _SIDE - radius, 2)
        _SHAPES[str(label)](draw, x, y, radius, _colour(random))
    return picture.filter(ImageFilter.GaussianBlur(random.uniform(0, 0.8)))


def _colour(random: np.random.Generator) -> tuple[int, ...]:
    """Far from the ground's middling values in at least one channel."""
    colour = random.integers(0, 256, 3)
    colour[random.integers(3)] = random.choice([0, 255])
    return tuple(map(int, colour))


def _polygon(x: float, y: float, radii: list[float]) -> list[tuple[float, float]]:
    steps = [2 * math.pi * index / len(radii) - math.pi / 2 for index in range(len(radii))]
    return [(x + r * math.cos(angle), y + r * math.sin(angle)) for r, angle in zip(radii, steps, strict=True)]


def _box(x: float, y: float, radius: float) -> tuple[float, float, float, float]:
    return x - radius, y - radius, x + radius, y + radius


def _draw_stripes(draw: ImageDraw.ImageDraw, x: float, y: float, radius: float, colour: tuple[int, ...]) -> None:
    for offset in (-1, -0.33, 0.33, 1):
        draw.line((x - radius, y + offset * radius, x + radius, y + offset * radius), colour, width=3)


_SHAPES = {
    "circle": lambda draw, x, y, r, colour: draw.ellipse(_box(x, y, r), fill=colour),
    "square": lambda draw, x, y, r, colour: draw.rectangle(_box(x, y, r * 0.85), fill=colour),
    "triangle": lambda draw, x, y, r, colour: draw.polygon(_polygon(x, y, [r] * 3), fill=colour),
    "star": lambda draw, x, y, r, colour: draw.polygon(_polygon(x, y, [r, r * 0.4] * 5), fill=colour),
    "ring": lambda draw, x, y, r, colour: draw.ellipse(_box(x, y, r), outline=colour, width=4),
    "stripes": _draw_stripes,
}
