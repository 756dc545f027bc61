"""What corrections do to a label: those of mistakes alone, and with answers about photos that it tags right.

    python -m benchmarks.corrections LABELS.csv

The CSV has the columns image and split and one per label. Each label is taught to `everyday` from 20 photos of the
train split with it and 60 without; then it is corrected with some of its mistakes on the others. The changes of average
precision and F1 are those on photos of val. Prints a Markdown table of means and the worst over labels and draws.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labelwise.repository import Repository
from teaching.feature_graph import open_features
from teaching.fit import FEWEST, FittedLabel, are_mistakes, correct_label, fit_label
from teaching.given_photos import YES, from_table, look_at
from teaching.logistic import sigmoid
from training.data.layouts.csv_list import read_rows
from training.metrics import average_precisions, f1_score

REPOSITORY = Path(__file__).parent.parent / "model_repository"
PHOTOS = {"train": 500, "val": 300}
GIVEN = (20, 60)  # photos with the label and without it
MISTAKES = (3, 10, 20)  # of each kind
DRAWS = 2

Bools = NDArray[np.bool_]


def features_of(file: Path) -> tuple[tuple[str, ...], NDArray, Bools, Bools]:
    """The labels, and of some photos of both splits the features [n, d], the answers [n, l] and which are train [n]."""
    splits = {Path(row.path("image")).name: row.split("split") for row in read_rows(file)[1]}
    given = from_table(file)
    order = np.random.default_rng(0).permutation(len(given.files)).tolist()
    rows: list[int] = []
    for split, count in PHOTOS.items():
        rows += [row for row in order if splits[given.files[row].name] == split][:count]
    version = Repository.open(REPOSITORY, only="everyday").taggers["everyday"][1]
    graph = open_features(version.weights.with_name("model.onnx"), version.spec)
    seen = look_at(given.chosen(rows, given.answers[rows]), version.spec.image, graph.see)
    train = np.array([splits[file.name] == "train" for file in seen.photos.files])
    return given.labels, seen.values[0].astype(np.float64), seen.photos.answers == YES, train


def drawn(random: np.random.Generator, among: Bools, count: int) -> NDArray[np.intp]:
    return random.permutation(np.flatnonzero(among))[:count]


def quality(logits: NDArray, threshold: float, has: Bools) -> NDArray:
    tagged = sigmoid(logits) >= threshold
    hits = (tagged & has).sum()
    precision = float(average_precisions(sigmoid(logits)[:, None], has[:, None].astype(np.float32))[0])
    return np.array([precision, f1_score(hits / max(tagged.sum(), 1), hits / has.sum())])


def changes(features: NDArray, has: Bools, train: Bools) -> Iterator[tuple[str, NDArray]]:
    """What each kind of correction changes on the photos that are not `train`."""
    random = np.random.default_rng(0)
    given = np.concatenate([drawn(random, train & (has == answer), GIVEN[not answer]) for answer in (True, False)])
    taught = fit_label("it", features[given], has[given], None)
    logits = features @ taught.weight + taught.bias
    before = quality(logits[~train], taught.threshold, has[~train])
    tagged = sigmoid(logits) >= taught.threshold

    def change(fitted: FittedLabel) -> NDArray:
        after = features @ fitted.weight + fitted.bias + fitted.factor * logits
        return quality(after[~train], fitted.threshold, has[~train]) - before

    for draw in range(DRAWS):
        random = np.random.default_rng(draw)
        for count in MISTAKES:
            wrong = np.concatenate(
                [drawn(random, train & (tagged != has) & (has == it), count) for it in (True, False)]
            )
            right = np.concatenate(
                [drawn(random, train & (tagged == has) & (has == it), count) for it in (True, False)]
            )
            if min(has[wrong].sum(), (~has[wrong]).sum()) < FEWEST:
                continue
            for name, rows in (("alone", wrong), ("and as many right ones", np.concatenate([wrong, right]))):
                answers, scores = has[rows], sigmoid(logits[rows])
                yield (
                    f"{count} + {count} mistakes {name}, fitted",
                    change(fit_label("it", features[rows], answers, scores)),
                )
                assert are_mistakes(answers, scores, taught.threshold, True)
                yield (
                    f"{count} + {count} mistakes {name}, as `teach` does",
                    change(correct_label("it", features[rows], answers, scores, taught.threshold)),
                )


def main(file: Path) -> None:
    labels, features, answers, train = features_of(file)
    found: dict[str, list[NDArray]] = {}
    for has in answers.T:
        for name, change in changes(features, has, train):
            found.setdefault(name, []).append(change)
    print(f"{len(labels)} labels, {DRAWS} draws, {(~train).sum()} photos.\n")
    print("| corrected with | AP | worst | F1 | worst |\n|---|---|---|---|---|")
    for name, each in found.items():
        mean, worst = np.mean(each, axis=0), np.min(each, axis=0)
        print(f"| {name} | {mean[0]:+.3f} | {worst[0]:+.3f} | {mean[1]:+.3f} | {worst[1]:+.3f} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
