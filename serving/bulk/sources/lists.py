"""Photos named in a list: the lines of standard input, or a column of a CSV or Parquet file."""

import codecs
import csv
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from labelwise.errors import DataError
from labelwise.spreadsheet import HEAD_BYTES, encoding_of, read_cells
from serving.bulk.sources.found import Found, look

LISTS = (".csv", ".tsv", ".parquet")
_COLUMNS = ("image", "path", "file", "filename")  # as in training's lists
_TEXT = ("string", "large_string", "dictionary<values=string", "dictionary<values=large_string")  # Arrow's types
_ROWS = 4096


def read_stdin() -> Iterator[Found]:
    """One path per line, relative to the current folder. Raises DataError if standard input cannot be read."""
    mark = codecs.BOM_UTF8  # some programs begin a text with it
    try:
        # Not sys.stdin: Python cannot end while a thread waits in its reader.
        with open(sys.stdin.fileno(), "rb", closefd=False) as stream:
            for line in stream:
                if name := line.removeprefix(mark).rstrip(b"\r\n"):
                    yield look(os.fsdecode(name))
                mark = b""
    except OSError as error:
        raise DataError(f"Standard input cannot be read: {error.strerror or error}.") from error


def read_list(path: str) -> Iterator[Found]:
    """Paths relative to the list, or to a folder `images` beside it, as training reads them. Raises DataError."""
    folder = Path(path).parent
    roots = (str(folder), str(folder / "images"))
    try:
        for name in _parquet_cells(path) if path.lower().endswith(".parquet") else _csv_cells(path):
            yield look(_locate(name, roots))
    except (OSError, ValueError, csv.Error) as error:  # pyarrow's own errors are ValueErrors and OSErrors
        raise DataError(f"{path} cannot be read as a list of photos: {error}.") from error


def _locate(name: str, roots: tuple[str, ...]) -> str:
    """Its place in the first of `roots` that has it, otherwise in the first."""
    places = [os.path.join(root, name) for root in roots]  # noqa: PTH118 (an empty name must not become the folder)
    return next(filter(os.path.lexists, places), places[0])


def _csv_cells(path: str) -> Iterator[str]:
    with open(path, "rb") as head:  # noqa: PTH123
        encoding = encoding_of(head.read(HEAD_BYTES))
    with open(path, encoding=encoding, newline="") as stream:  # noqa: PTH123
        rows = read_cells(stream, _COLUMNS)
        _, header = next(rows, (0, []))
        at = header.index(_column(header, path))
        for _, cells in rows:
            if name := "".join(cells[at : at + 1]).strip():
                yield name


def _parquet_cells(path: str) -> Iterator[str]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        # The column `image` of a data set that holds the photos themselves is a struct or bytes.
        column = _column([field.name for field in file.schema_arrow if str(field.type).startswith(_TEXT)], path)
        for batch in file.iter_batches(_ROWS, columns=[column]):
            yield from (name for name in batch.column(0).to_pylist() if name)


def _column(names: Sequence[str], path: str) -> str:
    by_lower = {name.strip().lower(): name for name in names}
    column = next((by_lower[name] for name in _COLUMNS if name in by_lower), None)
    if column is None:
        raise DataError(f"{path} has no column of text with the photos' paths: name it `image` or `path`.")
    return column
