"""CSV for spreadsheets: a row per photo, its tags in one cell (`join_names`), a column `scores.LABEL` per label."""

import csv
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from labelwise.label_names import join_names
from labelwise.spec import TaggerSpec
from serving.bulk.rows import Page, StoredRow, weights_of

_SCORES = "scores."
_BEFORE, _AFTER = ("path", "tags"), ("model", "version", "weights", "error", "detail", "size", "mtime_ns")
_NEEDED = {*_BEFORE, *_AFTER} - {"weights"}  # older outputs lack it
_LONGEST = 2**31 - 1  # characters of a cell with all tags; the most that Python takes on Windows


def write(stream: IO[bytes], pages: Iterable[Page], spec: TaggerSpec) -> None:
    text = io.TextIOWrapper(stream, encoding="utf-8", newline="", write_through=True)
    # Lines end in "\r\n", as in RFC 4180. With "\n", Python before 3.13 writes a "\r" in a cell without quotes.
    writer = csv.writer(text)
    writer.writerow((*_BEFORE, *(_SCORES + label for label in spec.labels), *_AFTER))
    for page in pages:
        for row, tags, values in zip(page.rows, page.tags, page.scores.tolist(), strict=True):
            told = ("" if score != score else score for score in values)
            about = (spec.name, spec.version, weights_of(spec), row.error, row.detail, row.size, row.mtime_ns)
            writer.writerow((row.path, join_names(tags or ()), *told, *about))
    text.detach()  # the caller closes the stream


def read(file: Path) -> Iterator[StoredRow]:
    before = csv.field_size_limit(_LONGEST)  # it is a setting of the whole process
    try:
        with file.open(encoding="utf-8", newline="") as stream:
            yield from _rows(csv.DictReader(stream, strict=True))
    except csv.Error as error:
        raise ValueError(str(error)) from error
    finally:
        csv.field_size_limit(before)


def _rows(reader: "csv.DictReader[str]") -> Iterator[StoredRow]:
    names = reader.fieldnames or ()
    if names and _NEEDED - {*names}:
        raise ValueError("It has other columns.")
    labels = tuple(name.removeprefix(_SCORES) for name in names if name.startswith(_SCORES))
    for cells in reader:
        told = {label: float(cells[_SCORES + label]) for label in labels if cells[_SCORES + label]}
        entry: dict[str, Any] = {name: cells.get(name) or None for name in _AFTER}
        entry |= {name: int(entry[name]) for name in ("size", "mtime_ns") if entry[name]}
        entry |= {"path": cells["path"], "version": int(cells["version"])}
        broken = entry["error"] is not None and not told
        yield StoredRow.of(entry | {"scores": None if broken else told}, labels)
