"""A CSV: a path, and a column per label or a column of label names."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from labelwise.errors import DataError
from training.data.formats.files import read_text
from training.data.formats.table import Row, read_table
from training.data.labelled import LabelledData, some

LAYOUT = "a CSV, or a folder with labels.csv (image, a 0/1 column per label or names in `labels`, split)"


def recognises(source: Path) -> bool:
    return (source.suffix.lower() == ".csv" and source.is_file()) or (source / "labels.csv").is_file()


def read(source: Path, seed: int) -> LabelledData:
    file = source / "labels.csv" if source.is_dir() else source
    header, rows = _read_rows(file)
    return read_table(rows, header, file, seed)


def _read_rows(file: Path) -> tuple[list[str], list[Row]]:
    reader = csv.reader(io.StringIO(read_text(file, "a CSV"), newline=""))
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_commas(header, file)
        rows = [_read_row(header, cells, reader.line_num, file) for cells in reader if cells]
    except csv.Error as error:
        raise DataError(f"{file}, line {reader.line_num} is not CSV: {error}.") from error
    if not rows:
        raise DataError(f"{file} lists no photos: a header and a row per photo are needed.")
    twice = sorted({name for name in header if header.count(name) > 1 or not name})
    if twice:
        raise DataError(f"{file} has columns without a name of their own: {some([repr(name) for name in twice])}.")
    return header, rows


def _check_commas(header: Sequence[str], file: Path) -> None:
    """Any other separator leaves one column, of which what follows would say that the photos' paths are missing."""
    names = {";": "semicolons", "\t": "tabs"}
    if len(header) == 1 and (found := [name for sign, name in names.items() if sign in header[0]]):
        raise DataError(f"{file} is separated by {found[0]}: save it with commas.")


def _read_row(header: Sequence[str], cells: Sequence[str], line: int, file: Path) -> Row:
    if len(cells) != len(header):
        raise DataError(f"{file}, line {line}: {len(header)} values are needed, as in the header, not {len(cells)}.")
    return Row(line, dict(zip(header, (cell.strip() for cell in cells), strict=True)))
