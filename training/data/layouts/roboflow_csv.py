"""Roboflow's multi-class CSV: beside the photos a `_classes.csv`, with a column of 0 and 1 per label."""

from pathlib import Path

from labelwise.errors import DataError
from labelwise.label_names import some
from training.data.labelled_data import LabelledData
from training.data.layouts.csv_list import read_rows
from training.data.layouts.entries import Entry, entries_to_data, name_files
from training.data.layouts.folders import find_parts
from training.data.layouts.layout_files import locate

NAME = "Roboflow's multi-class CSV"
LAYOUT = "Roboflow's multi-class CSV (_classes.csv, also in train, valid and test)"

_FILE = "_classes.csv"
_PHOTO = "filename"


def recognises(source: Path) -> bool:
    return bool(find_parts(source, _list_of))


def read(source: Path, seed: int) -> LabelledData:
    entries: list[Entry] = []
    labels: dict[str, None] = {}
    parts = find_parts(source, _list_of)
    for part in parts:
        columns, found = _read_part(part.found, part.split)
        labels |= dict.fromkeys(columns)
        entries += found
    layout = name_files(NAME, [part.found for part in parts], source)
    return entries_to_data(entries, [*labels], layout=layout, source=source, seed=seed)


def _list_of(place: Path) -> Path | None:
    file = place if place.name == _FILE else place / _FILE
    return file if file.is_file() else None


def _read_part(file: Path, split: str | None) -> tuple[list[str], list[Entry]]:
    header, rows = read_rows(file)
    if header[0].lower() != _PHOTO:
        raise DataError(
            f"{file} is not a list of photos: its columns are {some(header)}, and the first must be {_PHOTO}. Export "
            "the project as multi-label classification."
        )
    labels = header[1:]
    photos = locate([str(row.cells.get(header[0], "")) for row in rows], [file.parent, file.parent / "images"], file)
    return labels, [Entry(photo, *row.targets(labels), split) for row, photo in zip(rows, photos, strict=True)]
