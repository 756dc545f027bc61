"""How good a taught label is: `labelwise teach` against two things a user would do instead, with the same photos.

    python -m benchmarks.teach LABELS.csv

The CSV has the columns image and split and one per label, which `everyday` must not have. For each label, and in each
of five draws, photos of the train split are given; the average precision is that on all photos of val. Prints a
Markdown table of means over labels and draws, also as shares of what a fit of the same head to the whole train split
reaches.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from export.onnx_file import load_structure, open_session
from labelwise.cores import usable_cores
from labelwise.spec import TaggerSpec
from teaching.fit import fit_label
from teaching.given_photos import YES, GivenPhotos, from_table, look_at
from teaching.taught_graph import add_features, head_tensors
from training.data.layouts.csv_list import read_rows
from training.metrics import average_precisions

REPOSITORY = Path(__file__).parent.parent / "model_repository"
GIVEN = ((5, 15), (10, 30), (20, 60), (30, 90))  # photos with the label and without it
DRAWS = 5
NEIGHBOURS = 5
_BATCH = 8

Features = NDArray[np.float32]  # [n, d], of unit length
Method = Callable[[Features, NDArray[np.bool_], Features], NDArray[np.float64]]  # given, answers, others -> scores


def features_of(given: GivenPhotos) -> tuple[GivenPhotos, Features, Features]:
    """The photos that decode, the head's features, and the backbone's features averaged over positions."""
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
            classes, places = session.run([features, tokens], inputs)
            parts.append((classes, places.mean(axis=1)))
        return [np.concatenate(each) for each in zip(*parts, strict=True)]

    seen = look_at(given, spec.image, see)
    classes, pooled = seen.values
    return seen.photos, classes, pooled / np.linalg.norm(pooled, axis=1, keepdims=True)


def fitted(features: Features, has: NDArray[np.bool_], others: Features) -> NDArray[np.float64]:
    fit = fit_label("it", features, has, None)
    return others @ fit.weight + fit.bias


def nearest(features: Features, has: NDArray[np.bool_], others: Features) -> NDArray[np.float64]:
    """The mean similarity to the nearest photos with the label, less that to the nearest without."""
    similar = [np.sort(others @ features[has == answer].T, axis=1)[:, -NEIGHBOURS:] for answer in (True, False)]
    return similar[0].mean(axis=1) - similar[1].mean(axis=1)


def precision(scores: NDArray[np.float64], has: NDArray[np.bool_]) -> float:
    return float(average_precisions(scores[:, None], has[:, None].astype(np.float32))[0])


def average(
    method: Method, features: Features, answers: NDArray[np.bool_], train: NDArray[np.bool_], counts: tuple[int, int]
) -> NDArray[np.float64]:
    """The average precision on the photos that are not `train`, by label and draw."""
    found = np.empty((answers.shape[1], DRAWS))
    for label, has in enumerate(answers.T):
        for draw in range(DRAWS):
            random = np.random.default_rng(draw)
            rows = [np.flatnonzero(train & (has == answer)) for answer in (True, False)]
            given = np.concatenate(
                [random.choice(each, n, replace=False) for each, n in zip(rows, counts, strict=True)]
            )
            scores = method(features[given], has[given], features[~train])
            found[label, draw] = precision(scores, has[~train])
    return found


def main(file: Path) -> None:
    _, rows = read_rows(file)
    splits = {Path(row.path("image")).name: row.split("split") for row in rows}
    photos, classes, pooled = features_of(from_table(file))
    answers = photos.answers == YES
    train = np.array([splits[path.name] == "train" for path in photos.files])
    methods: dict[str, tuple[Method, Features]] = {
        "labelwise teach": (fitted, classes),
        "linear probe on pooled features": (fitted, pooled),
        f"{NEIGHBOURS} nearest neighbours": (nearest, pooled),
    }
    whole = np.array([precision(fitted(classes[train], has[train], classes[~train]), has[~train]) for has in answers.T])
    print(f"Fit to all {train.sum()} photos: AP {whole.mean():.3f} on {(~train).sum()} others.\n")
    print("| photos with and without | " + " | ".join(methods) + " |\n|---" + "|---" * len(methods) + "|")
    for counts in GIVEN:
        cells = []
        for method, features in methods.values():
            found = average(method, features, answers, train, counts)
            shares = (found / whole[:, None]).mean(axis=0)  # by draw
            cells.append(f"{found.mean():.3f} ({shares.mean():.0%}, worst draw {shares.min():.0%})")
        print(f"| {counts[0]} and {counts[1]} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
