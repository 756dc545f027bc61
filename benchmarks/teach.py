"""How good a taught label is: `labelwise teach` against two things a user would do instead, with the same photos.

    python -m benchmarks.teach DATA [LABEL …]

DATA is in any layout that `labelwise train` reads; all its labels are taught, or those named. For each label, and in
each of five draws, photos of the train split are given; the average precision is that on all photos of val. Prints a
Markdown table of means over labels and draws, also as shares of what full training reaches. That is the published head
for a label that `everyday` was trained on: its labels are independent, so one that is taught anew is one that was left
out of the training. For other labels, it is a fit of the same head to the whole train split. A row has the labels with
enough photos for it.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray

from export.onnx_file import load_structure, open_session
from labelwise.cores import usable_cores
from labelwise.spec import TaggerSpec
from teaching.fit import fit_label
from teaching.given_photos import NO, UNKNOWN, YES, GivenPhotos, look_at
from teaching.taught_graph import add_features, head_tensors
from training.data.labelled_data import LabelledData
from training.data.layouts import read_data
from training.metrics import average_precisions

REPOSITORY = Path(__file__).parent.parent / "model_repository"
GIVEN = (5, 10, 20, 30)  # photos with the label; three times as many without it, or all there are
DRAWS = 5
NEIGHBOURS = 5
_BATCH = 8

Features = NDArray[np.float32]  # [n, d], of unit length
Precisions = NDArray[np.float64] | None
Method = Callable[[Features, NDArray[np.bool_], Features], NDArray[np.float64]]  # given, answers, others -> scores


class Photos(NamedTuple):
    """The photos of train and then of val, n in all, and what each method needs to know of them."""

    answers: NDArray[np.int8]  # [n, l]: YES, NO or UNKNOWN
    is_train: NDArray[np.bool_]  # [n]
    classes: Features  # the head's features
    pooled: Features  # the backbone's, averaged over positions
    scores: NDArray[np.float32]  # [n, labels of `everyday`]


def load(data: LabelledData) -> Photos:
    """Decodes all photos and runs `everyday`."""
    spec = TaggerSpec.read(REPOSITORY / "everyday")
    model = load_structure(REPOSITORY / "everyday_model/1/model.onnx")
    features, tokens = add_features(model), head_tensors(model).tokens
    for name in (features, tokens):
        model.graph.output.append(onnx.ValueInfoProto(name=name))
    session = open_session(model.SerializeToString(), usable_cores())

    def see(pixels: NDArray[np.uint8]) -> Sequence[Features]:
        parts = []
        for start in range(0, len(pixels), _BATCH):
            inputs = {spec.input.name: pixels[start : start + _BATCH]}
            classes, places, scores = session.run([features, tokens, "scores"], inputs)
            parts.append((classes, places.mean(axis=1), scores))
        return [np.concatenate(each) for each in zip(*parts, strict=True)]

    answers = np.concatenate([data.train.targets, data.val.targets]).astype(np.int8)
    train = set(data.train.files)
    seen = look_at(GivenPhotos(data.labels, (*data.train.files, *data.val.files), answers), spec.image, see)
    classes, pooled, scores = seen.values
    is_train = np.array([file in train for file in seen.photos.files])
    pooled = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
    return Photos(seen.photos.answers, is_train, classes, pooled, scores)


def fitted(features: Features, has: NDArray[np.bool_], others: Features) -> NDArray[np.float64]:
    fit = fit_label("it", features, has, None)
    scores: NDArray[np.float64] = others @ fit.weight + fit.bias
    return scores


def nearest(features: Features, has: NDArray[np.bool_], others: Features) -> NDArray[np.float64]:
    """The mean similarity to the nearest photos with the label, less that to the nearest without."""
    similar = [np.sort(others @ features[has == answer].T, axis=1)[:, -NEIGHBOURS:] for answer in (True, False)]
    difference: NDArray[np.float64] = similar[0].mean(axis=1) - similar[1].mean(axis=1)
    return difference


def precision(scores: NDArray[np.float64], has: NDArray[np.bool_]) -> float:
    return float(average_precisions(scores[:, None], has[:, None].astype(np.float32))[0])


def fully_trained(photos: Photos, answers: NDArray[np.int8], column: int | None) -> float:
    """The average precision on val of the published label, or of a fit to the whole train split."""
    rows, val = photos.is_train & (answers != UNKNOWN), ~photos.is_train & (answers != UNKNOWN)
    if column is not None:
        return precision(photos.scores[val, column], answers[val] == YES)
    return precision(fitted(photos.classes[rows], answers[rows] == YES, photos.classes[val]), answers[val] == YES)


def drawn(method: Method, features: Features, photos: Photos, answers: NDArray[np.int8], count: int) -> Precisions:
    """The average precision on val of one label, by draw; None if there are too few photos to draw from."""
    rows = [np.flatnonzero(photos.is_train & (answers == answer)) for answer in (YES, NO)]
    if any(len(each) < count for each in rows):
        return None
    counts = (count, min(3 * count, len(rows[1])))
    val = ~photos.is_train & (answers != UNKNOWN)
    found = np.empty(DRAWS)
    for draw in range(DRAWS):
        random = np.random.default_rng(draw)  # so a larger count adds photos to the smaller ones
        given = np.concatenate([random.permutation(each)[:n] for each, n in zip(rows, counts, strict=True)])
        scores = method(features[given], answers[given] == YES, features[val])
        found[draw] = precision(scores, answers[val] == YES)
    return found


def main(place: str, names: Sequence[str]) -> None:
    data = read_data(place)
    data = data.select(names) if names else data
    photos = load(data)
    known = TaggerSpec.read(REPOSITORY / "everyday").labels
    columns = [known.index(label) if label in known else None for label in data.labels]
    whole = np.array([fully_trained(photos, *each) for each in zip(photos.answers.T, columns, strict=True)])
    methods: dict[str, tuple[Method, Features]] = {
        "labelwise teach": (fitted, photos.classes),
        "linear probe on pooled features": (fitted, photos.pooled),
        f"{NEIGHBOURS} nearest neighbours": (nearest, photos.pooled),
    }
    print("| photos with and without | labels | full training | " + " | ".join(methods) + " |")
    print("|---" * (3 + len(methods)) + "|")
    for count in GIVEN:
        cells = []
        for method, features in methods.values():
            by_label = [drawn(method, features, photos, answers, count) for answers in photos.answers.T]
            used = [label for label, found in enumerate(by_label) if found is not None]
            found = np.array([by_label[label] for label in used])
            if used:
                shares = found.mean(axis=0) / whole[used].mean()  # by draw
                cells.append(f"{found.mean():.3f} ({shares.mean():.0%}, worst draw {shares.min():.0%})")
        if cells:
            start = f"| {count} and {3 * count} | {len(used)} | {whole[used].mean():.3f} | "
            print(start + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
