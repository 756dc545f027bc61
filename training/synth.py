"""Draws a multi-label data set: small coloured shapes among clutter, some common, some rare.

A label is a shape in a colour ("red circle"), so neither shape nor colour alone identifies it. The most common label is
in 40 % of the pictures and the rarest in 6 %. Each belongs to one of four scenes and is four times as likely in its own
scene as in another. Everything depends only on the seed, and each picture on the seed and its number; the same versions
of NumPy and Pillow write the same bytes.
"""

import csv
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

from labelwise.errors import DataError

_VAL_SHARE = 0.2
_MOST_COMMON, _RAREST = 0.4, 0.06
_LABELS_A_PICTURE = 5.0  # upper bound of the average: with eighty labels each is rarer than with twenty-four
_SCENES, _LIFT = 4, 4.0
_ROOM = 12  # number of objects that find a place in a picture

_TWICE = 0.4  # probability that a label is drawn a second time
_SMALLEST, _LARGEST = 0.14, 0.34  # an object's width, as a share of the picture's side
_TRIES = 60  # to find a place, before an object lies on another
_TURN, _STRETCH = 25.0, 0.15  # at most: degrees either way; share narrower or wider
_CLUTTER = (2, 8)
_OVERSAMPLING = 2  # drawn larger, then reduced: Pillow's polygons have hard edges

# The random streams. Labels and unknown cells are drawn for all pictures at once.
_FOR_LABELS, _FOR_PICTURE, _FOR_UNKNOWN = range(3)

Rgb = tuple[int, int, int]
Points = NDArray[np.float64]  # [n, 2], x to the right and y down, within the unit circle


def draw_dataset(out: Path, count: int, seed: int = 0, labels: int = 24, side: int = 128, unknown: float = 0.0) -> None:
    """Write `count` square pictures, `side` pixels wide, to out/images, and labels.csv with 1, 0, -1 and a split.

    The labels are the first `labels` of CATALOGUE. The share `unknown` of the cells becomes -1; the pictures stay the
    same. A fifth is val, and each label is known to be present in train and in val. Raises DataError if this needs more
    pictures, or if `out` has pictures already or cannot be written.
    """
    is_val = np.arange(count) < count * _VAL_SHARE
    _check(count, labels, int(is_val.sum()))
    present = _draw_labels(np.random.default_rng((_FOR_LABELS, seed)), is_val, labels)
    hidden = _draw_unknown(np.random.default_rng((_FOR_UNKNOWN, seed)), present, is_val, unknown)
    try:
        if (out / "labels.csv").exists() or (out / "images").exists():
            raise DataError(f"{out} already holds a data set: choose another folder.")
        (out / "images").mkdir(parents=True)
        for number, row in enumerate(present):
            random = np.random.default_rng((_FOR_PICTURE, seed, number))
            picture = _draw_picture(random, np.flatnonzero(row), side)
            picture.save(out / "images" / _name(number), quality=int(random.integers(75, 95)))
        _write_table(out / "labels.csv", np.where(hidden, -1, present), is_val)
    except OSError as error:
        raise DataError(f"{out} cannot be written: {error.strerror or error}; choose another folder.") from error


def _check(count: int, labels: int, val: int) -> None:
    if not 2 <= labels <= len(CATALOGUE):
        raise DataError(f"From 2 to {len(CATALOGUE)} labels can be drawn, not {labels}.")
    if labels > val * _ROOM:
        needed = math.floor((math.ceil(labels / _ROOM) - 1) / _VAL_SHARE) + 1
        raise DataError(f"{count} pictures are too few for {labels} labels in train and val: draw {needed} or more.")


def _name(number: int) -> str:
    return f"{number:05d}.jpg"


def _write_table(file: Path, values: NDArray[np.int64], is_val: NDArray[np.bool_]) -> None:
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["image", *CATALOGUE[: values.shape[1]], "split"])
        for number, (row, val) in enumerate(zip(values.tolist(), is_val, strict=True)):
            writer.writerow([_name(number), *row, "val" if val else "train"])


# -- which labels are in which picture ---------------------------------------------------------------------------------


def prevalence(labels: int) -> NDArray[np.float64]:
    """The share of pictures with each label: falls geometrically, less far if there are few labels."""
    shares = np.geomspace(_MOST_COMMON, max(_RAREST, _MOST_COMMON / labels), labels)
    return shares * min(1.0, _LABELS_A_PICTURE / shares.sum())


def scene_of(labels: int) -> NDArray[np.int64]:
    """The scene of each label."""
    return np.arange(labels) % _SCENES


def _draw_labels(random: np.random.Generator, is_val: NDArray[np.bool_], labels: int) -> NDArray[np.bool_]:
    """The labels of each picture, bool [count, labels]; each label is in each split."""
    elsewhere = prevalence(labels) / (1 + (_LIFT - 1) / _SCENES)  # so that the mean over the scenes is the prevalence
    scenes = random.integers(_SCENES, size=(len(is_val), 1))
    chances = np.where(scenes == scene_of(labels), _LIFT * elsewhere, elsewhere)
    present = random.random(chances.shape) < chances
    for split in (is_val, ~is_val):
        rows = np.flatnonzero(split)
        for label in np.flatnonzero(~present[rows].any(axis=0)):
            emptiest = rows[present[rows].sum(axis=1).argmin()]
            present[emptiest, label] = True
    return present


def _draw_unknown(
    random: np.random.Generator, present: NDArray[np.bool_], is_val: NDArray[np.bool_], share: float
) -> NDArray[np.bool_]:
    """The cells to hide, bool [count, labels]; the first presence of each label in either split stays known."""
    hidden = random.random(present.shape) < share
    for split in (is_val, ~is_val):
        rows = np.flatnonzero(split)
        hidden[rows[present[rows].argmax(axis=0)], np.arange(present.shape[1])] = False
    return hidden


# -- pictures ----------------------------------------------------------------------------------------------------------


def _draw_picture(random: np.random.Generator, labels: NDArray[np.int64], side: int) -> Image.Image:
    large = (side * _OVERSAMPLING, side * _OVERSAMPLING)
    canvas = _ground(random, side).resize(large, Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(canvas)
    for _ in range(random.integers(*_CLUTTER)):
        _draw_clutter(random, draw, canvas.width)
    copies = np.repeat(labels, 1 + (random.random(len(labels)) < _TWICE))
    taken: list[tuple[float, float, float]] = []
    for label in random.permutation(copies):
        x, y, radius = place = _find_place(random, canvas.width, taken)
        taken.append(place)
        shape, colour = _PAIRS[label]
        _draw_polygon(draw, _varied(random, _SHAPES[shape]) * radius + (x, y), _shade(random, colour))
    return _photographed(random, canvas.reduce(_OVERSAMPLING))


def _ground(random: np.random.Generator, side: int) -> Image.Image:
    """A greyish ground with broad and fine stains."""
    tint = random.uniform(75, 155) + random.uniform(-20, 20, 3)
    broad, fine = (
        Image.fromarray(np.uint8(tint + random.uniform(-45, 45, (cells, cells, 3)))).resize((side, side))
        for cells in (4, random.integers(12, 40))
    )
    return Image.blend(broad, fine, random.uniform(0.2, 0.6))


def _draw_clutter(random: np.random.Generator, draw: ImageDraw.ImageDraw, side: int) -> None:
    """A line or a blob, in the colours of the labels."""
    colour = _shade(random, str(random.choice(list(_COLOURS))))
    x, y = random.uniform(0, side, 2)
    if random.random() < 0.5:
        blob = _around(random.uniform(0.4, 1, 9))
        _draw_polygon(draw, blob * random.uniform(0.02, 0.05) * side + (x, y), colour)
    else:
        angle, length = random.uniform(0, math.pi), random.uniform(0.1, 0.5) * side
        end = (x + length * math.cos(angle), y + length * math.sin(angle))
        draw.line(((x, y), end), colour, width=round(random.uniform(0.008, 0.02) * side))


def _find_place(
    random: np.random.Generator, side: int, taken: list[tuple[float, float, float]]
) -> tuple[float, float, float]:
    """Centre and radius of an object that hardly touches earlier ones; it shrinks during the search."""
    smallest, largest = _SMALLEST * side / 2, _LARGEST * side / 2
    radius = random.uniform(smallest, largest)
    for _ in range(_TRIES):
        x, y = random.uniform(radius, side - radius, 2)
        if all(math.hypot(x - other_x, y - other_y) > 0.9 * (radius + other) for other_x, other_y, other in taken):
            break
        radius = max(smallest, 0.97 * radius)
    return x, y, radius


def _varied(random: np.random.Generator, points: Points) -> Points:
    """Turned and stretched a little."""
    angle = math.radians(random.uniform(-_TURN, _TURN))
    sine, cosine = math.sin(angle), math.cos(angle)
    stretch = (1 - random.uniform(0, _STRETCH), 1.0)
    return points * random.permutation(stretch) @ np.array([[cosine, sine], [-sine, cosine]])


def _shade(random: np.random.Generator, colour: str) -> Rgb:
    red, green, blue = np.clip(np.array(_COLOURS[colour]) + random.integers(-22, 23, 3), 0, 255).tolist()
    return red, green, blue


def _draw_polygon(draw: ImageDraw.ImageDraw, points: Points, colour: Rgb) -> None:
    draw.polygon(list(map(tuple, points.tolist())), fill=colour)


def _photographed(random: np.random.Generator, picture: Image.Image) -> Image.Image:
    """Slightly blurred, brighter or darker, flatter and noisy, but with recognisable colours."""
    picture = picture.filter(ImageFilter.GaussianBlur(random.uniform(0, 0.6)))
    picture = ImageEnhance.Brightness(picture).enhance(random.uniform(0.8, 1.2))
    picture = ImageEnhance.Contrast(picture).enhance(random.uniform(0.85, 1.1))
    pixels = np.asarray(picture, np.float32)
    noise = random.standard_normal(pixels.shape, np.float32) * random.uniform(2, 8)
    return Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8))


# -- shapes and colours ------------------------------------------------------------------------------------------------


def _around(radii: list[float] | NDArray[np.float64]) -> Points:
    """Points at these distances from the centre, evenly spaced around it, the first at the top."""
    angles = 2 * math.pi * np.arange(len(radii)) / len(radii)
    return np.stack([np.sin(angles), -np.cos(angles)], axis=1) * np.asarray(radii)[:, None]


def _arc(start: float, end: float) -> Points:
    """On the unit circle, from degrees to degrees clockwise from the top."""
    angles = np.radians(np.linspace(start, end, 30))
    return np.stack([np.sin(angles), -np.cos(angles)], axis=1)


def _heart() -> Points:
    t = np.linspace(0, 2 * math.pi, 40, endpoint=False)
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([16 * np.sin(t) ** 3, -2.5 - y], axis=1) / 16


def _ring() -> Points:
    """Once around outside, once back inside; the two seams lie on each other."""
    circle = _around([1.0] * 40)
    closed = np.concatenate([circle, circle[:1]])
    return np.concatenate([closed, closed[::-1] * 0.55])


_SHAPES: dict[str, Points] = {
    "circle": _around([0.95] * 40),
    "star": _around([1.1, 0.42] * 5),
    "square": np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * 0.8,
    "ring": _ring(),
    "triangle": _around([1.1] * 3),
    "cross": np.array(
        [(-1, -3), (1, -3), (1, -1), (3, -1), (3, 1), (1, 1), (1, 3), (-1, 3), (-1, 1), (-3, 1), (-3, -1), (-1, -1)]
    )
    / 3,
    "heart": _heart(),
    "arrow": np.array([(0, -4), (3, 0), (1, 0), (1, 4), (-1, 4), (-1, 0), (-3, 0)]) / 4,
    # An arc of the unit circle, and back along that of another through the same two tips.
    "crescent": np.concatenate([_arc(135, 405), _arc(380, 160) * 0.752 + (0.45, 0)]),
    "hourglass": np.array([(-0.75, -1), (0.75, -1), (-0.75, 1), (0.75, 1)]),
}
# No brighter colours: a bright picture would wash them out.
_COLOURS: dict[str, Rgb] = {
    "red": (200, 30, 30),
    "blue": (35, 55, 200),
    "yellow": (205, 190, 25),
    "green": (30, 145, 40),
    "white": (232, 232, 232),
    "pink": (215, 70, 180),
    "black": (22, 22, 22),
    "cyan": (40, 190, 200),
}
# Every ten labels have each shape once; the next ten have them in other colours, until all pairs are used.
_PAIRS = [
    (shape, list(_COLOURS)[(place + 3 * turn) % len(_COLOURS)])
    for turn in range(len(_COLOURS))
    for place, shape in enumerate(_SHAPES)
]
CATALOGUE = tuple(f"{colour} {shape}" for shape, colour in _PAIRS)
