"""A CSV, or a table with semicolons or tabs: a path, and a column per label or a column of label names."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from labelwise.errors import DataError
from labelwise.label_names import clean_name, some
from labelwise.spreadsheet import read_cells
from training.data.labelled_data import LabelledData
from training.data.layouts.layout_files import read_head, read_text
from training.data.layouts.table import PATH_COLUMNS, TableRow, read_table

NAME = "a CSV list"
LAYOUT = "a CSV, or a folder with labels.csv (image, a 0/1 column per label or names in `labels`, split)"

_SUFFIXES = (".csv", ".tsv", ".txt")  # Excel calls its "Unicode text" .txt
_INDEX = ("", "Unnamed: 0")  # pandas writes row numbers without a column name, and reads them back as the second
_IN_A_FOLDER = ("labels.csv", "labels.tsv", "labels.txt")


def recognises(source: Path) -> bool:
    return _list_of(source) is not None


def read(source: Path, seed: int) -> LabelledData:
    file = _list_of(source)
    assert file is not None
    header, rows = read_rows(file)
    return read_table(rows, header, file, seed)


def read_rows(file: Path) -> tuple[list[str], list[TableRow]]:
    """The names of the columns, and a row per photo. Raises DataError."""
    cells = read_cells(io.StringIO(read_text(file, "a CSV"), newline=""), PATH_COLUMNS)
    lines: list[tuple[int, list[str]]] = []
    try:
        lines.extend(cells)
    except csv.Error as error:
        last = lines[-1][0] if lines else 0
        raise DataError(f"{file}, after line {last}, is not CSV: {error}.") from error
    if len(lines) < 2:
        raise DataError(f"{file} lists no photos: a header and a row per photo are needed.")
    header = [clean_name(name) for name in lines[0][1]]
    while not header[-1]:  # Excel keeps the commas of deleted columns
        header.pop()
    if header[0] in _INDEX and _is_index([cells[0] for _, cells in lines[1:]]):
        header, lines = header[1:], [(line, cells[1:]) for line, cells in lines]
    rows = [_read_row(header, cells, line, file) for line, cells in lines[1:]]
    return _named_columns(header, rows, file), rows


def _list_of(source: Path) -> Path | None:
    """`source` itself, or the table of labels in it."""
    if source.suffix.lower() in _SUFFIXES and source.is_file():
        return source
    try:
        inside = sorted(file for file in source.iterdir() if file.name.lower() in _IN_A_FOLDER)
    except OSError:
        return None
    return next(filter(_is_table, inside), None)


def _is_table(file: Path) -> bool:
    """A labels.txt may also be a list of classes, without a column of photos."""
    if not file.is_file() or file.suffix.lower() != ".txt":
        return file.is_file()
    try:
        _, header = next(read_cells(io.StringIO(read_head(file), newline=""), PATH_COLUMNS), (0, []))
    except csv.Error:
        return False
    return any(name.strip().lower() in PATH_COLUMNS for name in header) and len(header) > 1


def _is_index(cells: Sequence[str]) -> bool:
    """Whether each row has a different whole number, unlike the values of a label."""
    numbers = {cell.strip() for cell in cells}
    return len(numbers) == len(cells) and all(number.isdecimal() for number in numbers)


def _read_row(header: Sequence[str], cells: Sequence[str], line: int, file: Path) -> TableRow:
    """The cells by column. Cells without a column must be empty."""
    if len(cells) < len(header) or any(cell.strip() for cell in cells[len(header) :]):
        raise DataError(
            f"{file}, line {line}: {len(header)} values are needed, as in the header, not {len(cells)}. Put a "
            "cell that holds the separator in quotes."
        )
    named = {name: cell.strip() for name, cell in zip(header, cells, strict=False) if name or cell.strip()}
    return TableRow(file, line, named)


def _named_columns(header: Sequence[str], rows: Sequence[TableRow], file: Path) -> list[str]:
    """The columns with a name. A column without one must be empty, and no name may occur twice."""
    if nameless := next((row.line for row in rows if "" in row.cells), None):
        raise DataError(f"{file} has a column without a name that is not empty in line {nameless}: name or remove it.")
    names = [name for name in header if name]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"{file} has columns with the same name: {some([repr(name) for name in twice])}.")
    return names
