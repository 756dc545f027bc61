"""Turns rows of cells, from a CSV or JSON lines, into labelled photos."""

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
from labelwise.label_names import clean_name, some, split_names
from training.data.labelled_data import ABSENT, PRESENT, SPLITS, UNKNOWN, LabelledData, assemble, targets_of_names
from training.data.layouts.layout_files import locate

PATH_COLUMNS = ("image", "path", "file", "filename")
_SPLIT, _IS_VAL, _NAMES, _UNKNOWN_NAMES = "split", "is_valid", "labels", "unknown"  # is_valid: fastai's name for it
# As programs write them. Spreadsheets write them in the user's language.
_WORDS = {
    **dict.fromkeys(("true", "yes", "t", "y", "wahr", "vrai", "vero", "verdadero", "verdadeiro", "waar"), PRESENT),
    **dict.fromkeys(("false", "no", "f", "n", "falsch", "faux", "falso", "onwaar"), ABSENT),
    **dict.fromkeys(("", "nan", "na", "null"), UNKNOWN),
}
_NUMBERS = {1.0: PRESENT, 0.0: ABSENT, -1.0: UNKNOWN}
_ENDS = {"[": "]", "{": "}", "(": ")"}
# Parentheses are common in names; they make a list only around quotes: ('cat', 'dog') and ().
_BEGINS = re.compile(r"""\[|\{|\(\s*(?:["']|\)\Z)""")
_QUOTED = re.compile(r"""("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')(\s*,\s*|\s+(?=["'])|\s*\Z)""", re.DOTALL)
_BARE = re.compile(r"""([^"',\[\](){}\s][^,\[\]{}]*)(?:,\s*|\Z)""")
_ESCAPE = re.compile(r"\\(?:x(..)|u(....)|U(.{8})|(.))", re.DOTALL)
_CONTROLS = {"n": "\n", "r": "\r", "t": "\t"}
_NO_NAMES = {"null", "none", "nan"}


@dataclass(frozen=True)
class TableRow:
    """One photo of a list. Its methods read cells, and raise DataError, which names file and line."""

    file: Path
    line: int
    cells: Mapping[str, Any]

    @property
    def place(self) -> str:
        return f"{self.file}, line {self.line}"

    def path(self, column: str) -> str:
        name = self.cells.get(column)
        if not isinstance(name, str) or not name:
            raise DataError(f"{self.place}: {column} must be the path of a photo, not {shown(name)}.")
        return name

    def split(self, column: str) -> str:
        if column.lower() == _IS_VAL and (target := self.target(column)) != UNKNOWN:
            return "val" if target == PRESENT else "train"
        split = self.cells.get(column)
        known = SPLITS.get(split.strip().lower()) if isinstance(split, str) else None
        if known is None:
            raise DataError(f"{self.place}: {column} must be train, val or test, not {shown(split)}.")
        return known

    def target(self, label: str) -> float:
        value = self.cells.get(label)
        text = "" if value is None else str(value).strip().lower()
        target = _WORDS.get(text, _NUMBERS.get(_number(text)))
        if target is None:
            raise DataError(
                f"{self.place}: a label must be 1, 0 or, if unknown, -1 or empty; also true and false, or yes and no. "
                f"{label} is {shown(value)}."
            )
        return target

    def targets(self, labels: Sequence[str]) -> tuple[set[str], set[str]]:
        """Of `labels`, which have a column each, the present and the unknown ones."""
        targets = {label: self.target(label) for label in labels}
        present, unknown = ({label for label in labels if targets[label] == value} for value in (PRESENT, UNKNOWN))
        return present, unknown

    def names(self, column: str) -> list[str]:
        """The names in a list, in the text of a list (`parse_list`), or in separated text (`split_names`)."""
        cell = names = self.cells.get(column)
        if isinstance(cell, str):
            try:
                names = parse_list(cell) if is_list(cell) else split_names(cell)
            except ValueError as error:
                raise DataError(f"{self.place}: {column} cannot be read: {error}.") from error
        if names is None:
            return []
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise DataError(f'{self.place}: {column} must be names, as a, b or ["a", "b"], not {shown(cell)}.')
        return [name for name in map(clean_name, names) if name]


def read_table(rows: Sequence[TableRow], columns: Sequence[str], file: Path, seed: int) -> LabelledData:
    """Reads a column of paths, a column per label or one of names (`labels`), and optionally `split` or `is_valid`.

    These column names match in any case. Paths are relative to `file`, or to a folder `images` beside it. Raises
    DataError, which names the line.
    """
    path_column = next((found for name in PATH_COLUMNS if (found := find_column(columns, name))), None)
    if path_column is None:
        raise DataError(
            f"{file} has no column with the photos' paths: name it `image`. Its columns are {some([*columns])}."
        )
    split_column = find_column(columns, _SPLIT) or find_column(columns, _IS_VAL)
    others = [name for name in columns if name not in (path_column, split_column)]
    if not others:
        raise DataError(
            f"{file} has no label columns: one column of 0 and 1 per label is needed, or names in `labels`."
        )
    if find_column(others, _NAMES):
        labels, targets = _named_labels(rows, others, file)
    else:
        labels, targets = others, np.array([[row.target(label) for label in others] for row in rows], np.float32)
    names = [row.path(path_column) for row in rows]
    splits = [row.split(split_column) for row in rows] if split_column else None
    files = locate(names, (file.parent, file.parent / "images"), file)
    return assemble(labels, files, targets, splits, seed, file)


def find_column(columns: Sequence[str], name: str) -> str | None:
    """The column `name`, or, if there is none, the first that differs only by case."""
    return name if name in columns else next((column for column in columns if column.lower() == name), None)


def _named_labels(
    rows: Sequence[TableRow], columns: Sequence[str], file: Path
) -> tuple[list[str], NDArray[np.float32]]:
    """Labels that a row does not name are absent; in a row without a list all are unknown."""
    names_column, unknown_column = find_column(columns, _NAMES), find_column(columns, _UNKNOWN_NAMES)
    assert names_column
    if surplus := [name for name in columns if name not in (names_column, unknown_column)]:
        raise DataError(f"{file} has names in `labels` and other columns too: {some(surplus)}. Keep one or the other.")
    present: list[Collection[str]] = [row.names(names_column) for row in rows]
    unknown: list[Collection[str]] = [row.names(unknown_column) if unknown_column else [] for row in rows]
    labels = sorted({name for names in (*present, *unknown) for name in names})
    for index, row in enumerate(rows):
        if both := sorted({*present[index]} & {*unknown[index]}):
            raise DataError(f"{row.place}: {some(both)} cannot be present and unknown at once.")
        if row.cells.get(names_column) is None:
            unknown[index] = labels
    return labels, targets_of_names(labels, present, unknown)


def _number(text: str) -> float | None:
    """Also with a decimal comma or a typographic minus: pandas writes 1.0 in columns with gaps, some Excels 1,0."""
    try:
        return float(text.replace(",", ".").replace("\N{MINUS SIGN}", "-"))
    except ValueError:
        return None


def is_list(cell: str) -> bool:
    return cell == "set()" or bool(_BEGINS.match(cell))


def parse_list(cell: str) -> Any:
    """The content of the list, or `cell` itself if it is not a list of names.

    JSON: ["a", "b"]. Python: ['a', 'b'], {'a'} and ('a',). NumPy: ['a' 'b']. DuckDB: [a, 'b, c']. PostgreSQL:
    {a,"b, c"}.
    """
    if cell == "set()":
        return []
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):
        names = _names(cell[1:-1].strip()) if cell.endswith(_ENDS[cell[0]]) else None
        return cell if names is None else names


def _names(text: str) -> list[str] | None:
    """None if `text` is not a sequence of names, quoted or bare, with commas between them."""
    names, at = [], 0
    while at < len(text):
        if quoted := _QUOTED.match(text, at):
            names.append(_ESCAPE.sub(_unescaped, quoted[1][1:-1]))
            at = quoted.end()
        elif (bare := _BARE.match(text, at)) and bare[1].rstrip().lower() not in _NO_NAMES:
            names.append(bare[1].rstrip())
            at = bare.end()
        else:
            return None
    return names


def _unescaped(escape: re.Match[str]) -> str:
    if digits := escape[1] or escape[2] or escape[3]:
        try:
            return chr(int(digits, 16))
        except (ValueError, OverflowError):  # not a number, or beyond Unicode
            return escape[0]
    return _CONTROLS.get(escape[4], escape[4])
