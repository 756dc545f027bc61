"""NUS-WIDE: lists of photos, and a file per concept with a 0 or 1 in a line per photo."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labelwise.errors import DataError
from training.data.labelled_data import ABSENT, PRESENT, UNKNOWN, LabelledData, assemble, counted
from training.data.layouts.layout_files import locate, read_lines

NAME = "NUS-WIDE"
LAYOUT = "a NUS-WIDE folder (ImageList, ConceptsList, Groundtruth/TrainTestLabels, photos in Flickr or images)"

_LISTS = {"Train": "ImageList/TrainImagelist.txt", "Test": "ImageList/TestImagelist.txt"}
_CONCEPTS = "ConceptsList/Concepts81.txt"
_GROUND_TRUTH = "Groundtruth/TrainTestLabels"
_VALUES = {"1": PRESENT, "0": ABSENT, "-1": UNKNOWN}


def recognises(source: Path) -> bool:
    return (source / _LISTS["Train"]).is_file()


def read(source: Path, seed: int) -> LabelledData:
    """The training list is train. The test list is test, which serves as val."""
    labels = read_lines(source / _CONCEPTS)
    # The lists were made on Windows: actor\0001_2124494179.jpg
    names = {part: [line.replace("\\", "/") for line in read_lines(source / file)] for part, file in _LISTS.items()}
    targets = np.concatenate([_read_targets(source, labels, part, len(names[part])) for part in _LISTS])
    roots = [source / folder for folder in ("Flickr", "images", ".")]
    files = locate([*names["Train"], *names["Test"]], roots, source)
    splits = ["train"] * len(names["Train"]) + ["test"] * len(names["Test"])
    return assemble(labels, files, targets, splits, seed, source)


def _read_targets(source: Path, labels: list[str], part: str, count: int) -> NDArray[np.float32]:
    targets = np.empty((count, len(labels)), np.float32)
    for column, label in enumerate(labels):
        file = source / _GROUND_TRUTH / f"Labels_{label}_{part}.txt"
        values = read_lines(file)
        if len(values) != count:
            raise DataError(
                f"{file} has {counted(len(values), 'value')}, but its list names {counted(count, 'photo')}."
            )
        if odd := sorted({*values} - {*_VALUES}):
            raise DataError(f"{file}: a label must be 1, 0 or, if unknown, -1; not {odd[0]!r}.")
        targets[:, column] = [_VALUES[value] for value in values]
    return targets
