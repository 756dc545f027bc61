"""Tells the user about labelled data before anything slow begins: its layout, its labels, what is left out."""

from collections.abc import Iterator

from training.data.labelled_data import LabelledData, count_present, counted, printable

_LABELS_AT_MOST = 200


def summary(data: LabelledData) -> Iterator[str]:
    """A line for the layout, one for the labels with their photos in train and val, one per note. Raises DataError."""
    if data.layout:
        yield f"Read as {data.layout}."
    yield _labels(data)
    yield from data.notes


def _labels(data: LabelledData) -> str:
    """The counts of val come from the targets, which are fetched for shards."""
    train, val = data.describe().train_counts, count_present(data.labels, data.val.targets)
    counts = [f"{printable(label)} {train[label]} + {val[label]}" for label in data.labels[:_LABELS_AT_MOST]]
    if more := len(data.labels) - len(counts):
        counts.append(f"and {more} more")
    return f"{counted(len(data.labels), 'label')}, with their photos to train on + for val: {', '.join(counts)}."
