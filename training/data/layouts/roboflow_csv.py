"""Roboflow's multi-class CSV: beside the photos a `_classes.csv`, with a column of 0 and 1 per label."""

from pathlib import Path

from labelwise.errors import DataError
from training.data.labelled_data import LabelledData, some
from training.data.layouts.csv_list import read_rows
from training.data.layouts.entries import Entry, entries_to_data, name_files
from training.data.layouts.folders import find_parts
from training.data.layouts.layout_files import locate
from training.data.layouts.table import read_targets

NAME = "Roboflow's multi-class CSV"
LAYOUT = "Roboflow's multi-class CSV (_classes.csv, also in train, valid and test)"

_FILE = "_classes.csv"
_PHOTO = "filename"


def recognises(source: Path) -> bool:
    return source.name == _FILE or bool(find_parts(source, _holds))


def read(source: Path, seed: int) -> LabelledData:
    folder = source.parent if source.name == _FILE else source
    entries: list[Entry] = []
    labels: dict[str, None] = {}
    files = []
    for part in find_parts(folder, _holds):
        files.append(part.folder / _FILE)
        columns, found = _read_part(files[-1], part.split)
        labels |= dict.fromkeys(columns)
        entries += found
    return entries_to_data(entries, [*labels], layout=name_files(NAME, files, folder), source=source, seed=seed)


def _holds(folder: Path) -> bool:
    return (folder / _FILE).is_file()


def _read_part(file: Path, split: str | None) -> tuple[list[str], list[Entry]]:
    header, rows = read_rows(file)
    if header[0].lower() != _PHOTO:
        raise DataError(
            f"{file} is not a list of photos: its columns are {some(header)}, and the first must be {_PHOTO}. Export "
            "the project as multi-label classification."
        )
    labels = header[1:]
    photos = locate([str(row.cells.get(header[0], "")) for row in rows], [file.parent, file.parent / "images"], file)
    return labels, [
        Entry(photo, *read_targets(row, labels, file), split) for row, photo in zip(rows, photos, strict=True)
    ]
