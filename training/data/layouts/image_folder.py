"""Hugging Face's ImageFolder: a metadata.csv or metadata.jsonl whose column `file_name` names the photos beside it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from labelwise.errors import DataError
from labelwise.label_names import some
from training.data.labelled_data import UNKNOWN, LabelledData
from training.data.layouts import csv_list, jsonl_list
from training.data.layouts.entries import Entry, entries_to_data, name_files
from training.data.layouts.folders import Part, find_parts
from training.data.layouts.layout_files import locate, read_head
from training.data.layouts.table import TableRow, find_column

NAME = "Hugging Face's ImageFolder"
LAYOUT = "Hugging Face's ImageFolder with labels in metadata.csv or metadata.jsonl (also in train, validation and test)"

_READERS = {"metadata.csv": csv_list.read_rows, "metadata.jsonl": jsonl_list.read_rows}
_PHOTO = "file_name"  # or a name that ends so, such as image_file_name
_SPLIT = "split"
_NAMED = ("labels", "label", "tags", "tag", "classes", "class", "category", "categories")


@dataclass(frozen=True)
class _Metadata:
    """The rows of one file, the column that names the photos, and the split of its folder."""

    file: Path
    photo_column: str
    columns: Sequence[str]
    rows: Sequence[TableRow]
    split: str | None


def recognises(source: Path) -> bool:
    return bool(find_parts(source, _metadata_at))


def read(source: Path, seed: int) -> LabelledData:
    """Labels are names in a column such as `labels`, or a column of 0 and 1 per label. Raises DataError."""
    parts = [_read_part(part) for part in find_parts(source, _metadata_at)]
    columns = [*dict.fromkeys(name for part in parts for name in part.columns if name != part.photo_column)]
    if all(part.split is None for part in parts):
        columns = [name for name in columns if name.lower() != _SPLIT]  # not a label: it is read as the split
    named = next((name for name in _NAMED if name in columns), None)
    label_columns = [] if named else [name for name in columns if _is_label(name, parts)]
    if not named and not label_columns:
        raise DataError(
            f"{parts[0].file} has no labels: its columns are {some([*parts[0].columns])}. Name the labels in a column "
            "`labels`, or give each a column of 0 and 1."
        )
    found = [
        [(_names(row, named), set()) if named else row.targets(label_columns) for row in part.rows] for part in parts
    ]
    labels = label_columns or sorted({label for part in found for present, _ in part for label in present or ()})
    entries = [entry for part, targets in zip(parts, found, strict=True) for entry in _entries(part, targets, labels)]
    surplus = [name for name in columns if name not in ([named] if named else label_columns)]
    return entries_to_data(
        entries,
        labels,
        layout=name_files(NAME, [part.file for part in parts], source),
        source=source,
        seed=seed,
        notes=[f"Left out: the columns {some(surplus)}."] if surplus else [],
    )


def _metadata_at(place: Path) -> Path | None:
    """`place` itself, or the file in it. Other kinds of table have this name, too."""
    files = [place / name for name in _READERS] if place.is_dir() else [place]
    return next((file for file in files if file.name in _READERS and _PHOTO in read_head(file)), None)


def _read_part(part: Part[Path]) -> _Metadata:
    file = part.found
    columns, rows = _READERS[file.name](file)
    photo_columns = [name for name in columns if name.endswith(_PHOTO)]
    photo_column = _PHOTO if _PHOTO in photo_columns else next(iter(photo_columns), None)
    if photo_column is None:
        raise DataError(f"{file} has no column {_PHOTO}, which names the photos. Its columns are {some(columns)}.")
    return _Metadata(file, photo_column, columns, rows, part.split)


_Targets = tuple[set[str] | None, set[str]]  # present and unknown labels; None for present: all are unknown


def _names(row: TableRow, column: str) -> set[str] | None:
    cell = row.cells.get(column)
    if cell is None:
        return None
    numbers = cell if isinstance(cell, list) else [cell]
    if all(isinstance(number, int) and not isinstance(number, bool) for number in numbers):
        return {str(number) for number in numbers}  # class numbers; only the data set's card has their names
    return {*row.names(column)}


def _is_label(column: str, parts: Sequence[_Metadata]) -> bool:
    """Whether it holds 0 and 1, and not only unknown values."""
    try:
        return {row.target(column) for part in parts for row in part.rows} != {UNKNOWN}
    except DataError:
        return False


def _entries(part: _Metadata, targets: Sequence[_Targets], labels: Sequence[str]) -> list[Entry]:
    split_column = find_column(part.columns, _SPLIT)
    names = [row.path(part.photo_column) for row in part.rows]
    photos = locate(names, [part.file.parent], part.file)
    return [
        Entry(
            photo,
            present or set(),
            {*labels} if present is None else unknown,
            part.split or (row.split(split_column) if split_column else None),
        )
        for row, photo, (present, unknown) in zip(part.rows, photos, targets, strict=True)
    ]
