"""Rows of cells, from a CSV or from JSON lines, to labelled photos."""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as shown  # a cell may be of any length
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelwise.errors import DataError
from training.data.formats.files import locate
from training.data.labelled import ABSENT, PRESENT, SPLITS, UNKNOWN, LabelledData, assemble, some, targets_of_names

_PATH_COLUMNS = ("image", "path", "file", "filename")
_SPLIT, _NAMES, _UNKNOWN_NAMES = "split", "labels", "unknown"
_VALUES = {"1": PRESENT, "0": ABSENT, "-1": UNKNOWN, "": UNKNOWN}
# As pandas writes a column that has gaps.
_VALUES |= {"1.0": PRESENT, "0.0": ABSENT, "-1.0": UNKNOWN}


@dataclass(frozen=True)
class Row:
    """One photo of a list, and the line it stands on."""

    line: int
    cells: Mapping[str, Any]


def read_table(rows: Sequence[Row], columns: Sequence[str], file: Path, seed: int) -> LabelledData:
    """A path, labels, and optionally `split`; the labels are a column each, or their names in a column `labels`.

    Paths are relative to `file`, or to a folder `images` beside it. Raises DataError, with the line.
    """
    path_column = next((name for name in _PATH_COLUMNS if name in columns), None)
    if path_column is None:
        raise DataError(f"{file} has no column with the photos' paths: name it `image`.")
    others = [name for name in columns if name not in (path_column, _SPLIT)]
    if not others:
        raise DataError(
            f"{file} has no label columns: one column of 0 and 1 per label is needed, or names in `labels`."
        )
    labels, targets = _named_labels(rows, others, file) if _NAMES in others else _label_columns(rows, others, file)
    names = [_path(row, path_column, file) for row in rows]
    splits = [_split(row, file) for row in rows] if _SPLIT in columns else None
    files = locate(names, (file.parent, file.parent / "images"), file)
    return assemble(labels, files, targets, splits, seed, file)


def _path(row: Row, column: str, file: Path) -> str:
    name = row.cells.get(column)
    if not isinstance(name, str) or not name:
        raise DataError(f"{file}, line {row.line}: {column} must be the path of a photo, not {shown(name)}.")
    return name


def _split(row: Row, file: Path) -> str:
    split = row.cells.get(_SPLIT)
    if not isinstance(split, str) or split not in SPLITS:
        raise DataError(f"{file}, line {row.line}: split must be train, val or test, not {shown(split)}.")
    return SPLITS[split]


def _label_columns(rows: Sequence[Row], labels: Sequence[str], file: Path) -> tuple[list[str], NDArray[np.float32]]:
    targets = [[_target(row, label, file) for label in labels] for row in rows]
    return list(labels), np.array(targets, np.float32)


def _target(row: Row, label: str, file: Path) -> float:
    value = row.cells.get(label)
    text = "" if value is None else str(int(value)) if isinstance(value, bool) else str(value)
    if text not in _VALUES:
        raise DataError(
            f"{file}, line {row.line}: a label must be 1, 0 or, if unknown, -1 or empty; not {shown(value)}."
        )
    return _VALUES[text]


def _named_labels(rows: Sequence[Row], columns: Sequence[str], file: Path) -> tuple[list[str], NDArray[np.float32]]:
    """Labels not named are absent; of a row without a list every label is unknown."""
    if surplus := [name for name in columns if name not in (_NAMES, _UNKNOWN_NAMES)]:
        raise DataError(f"{file} has names in `labels` and other columns too: {some(surplus)}. Keep one or the other.")
    present: list[Collection[str]] = [_names(row, _NAMES, file) for row in rows]
    unknown: list[Collection[str]] = [_names(row, _UNKNOWN_NAMES, file) for row in rows]
    labels = sorted({name for names in (*present, *unknown) for name in names})
    for index, row in enumerate(rows):
        if both := sorted({*present[index]} & {*unknown[index]}):
            raise DataError(f"{file}, line {row.line}: {some(both)} cannot be present and unknown at once.")
        if row.cells.get(_NAMES) is None:
            unknown[index] = labels
    return labels, targets_of_names(labels, present, unknown)


def _names(row: Row, column: str, file: Path) -> list[str]:
    """Names in a JSON list, or in text separated by ; or |."""
    cell = row.cells.get(column)
    try:
        names = json.loads(cell) if isinstance(cell, str) and cell.startswith("[") else cell
    except (ValueError, RecursionError):
        names = cell
    if isinstance(names, str) and not names.startswith("["):
        names = re.split(r"[;|]", names)
    if names is None:
        return []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f'{file}, line {row.line}: {column} must be names, as a;b or ["a", "b"], not {shown(cell)}.')
    return [name.strip() for name in names if name.strip()]
