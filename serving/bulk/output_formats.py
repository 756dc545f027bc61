"""The formats of an output, by the suffix of its name. Each is written page by page, and read back."""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, Protocol

from labelwise.label_names import case_fault, join_names
from labelwise.spec import TaggerSpec
from serving.bulk.rows import Page, StoredRow, weights_of
from serving.bulk.tag_errors import UsageError

_SCORES = "scores."  # before a label, in the name of a column of CSV
_BEFORE, _AFTER = ("path", "tags"), ("model", "version", "weights", "error", "detail", "size", "mtime_ns")
_NEEDED = {*_BEFORE, *_AFTER} - {"weights"}  # older outputs lack it
_LONGEST = 2**31 - 1  # characters of a cell with all tags; the most that Python takes on Windows


class Format(Protocol):
    """A format of files. A new one is named in FORMATS."""

    def check_labels(self, spec: TaggerSpec, file: Path) -> None:
        """Raises UsageError if the format cannot hold the labels of `spec`."""
        return  # most can hold any

    def write(self, stream: IO[bytes], pages: Iterable[Page], spec: TaggerSpec) -> None:
        """Write a whole file, also without any page."""

    def read(self, file: Path) -> Iterator[StoredRow]:
        """The rows. Raises ValueError, KeyError or OSError for a file that `write` did not write."""


class JsonLines(Format):
    """An object per photo; `scores` by label, null if the photo is broken."""

    def write(self, stream: IO[bytes], pages: Iterable[Page], spec: TaggerSpec) -> None:
        for page in pages:
            lines = (json.dumps(entry, ensure_ascii=False) + "\n" for entry in _entries(page, spec))
            stream.write("".join(lines).encode())

    def read(self, file: Path) -> Iterator[StoredRow]:
        with file.open(encoding="utf-8") as stream:
            for line in stream:
                yield StoredRow.of(json.loads(line), None)


def _entries(page: Page, spec: TaggerSpec) -> Iterator[dict[str, Any]]:
    for row, tags, values in zip(page.rows, page.tags, page.scores.tolist(), strict=True):
        told = {label: score for label, score in zip(spec.labels, values, strict=True) if score == score}
        yield {
            "path": row.path,
            "tags": tags,
            "scores": None if tags is None else told,
            "model": spec.name,
            "version": spec.version,
            "weights": weights_of(spec),
            "error": row.error,
            "detail": row.detail,
            "size": row.size,
            "mtime_ns": row.mtime_ns,
        }


class Csv(Format):
    """For spreadsheets: a row per photo, its tags in one cell (`join_names`), a column `scores.LABEL` per label."""

    def write(self, stream: IO[bytes], pages: Iterable[Page], spec: TaggerSpec) -> None:
        text = io.TextIOWrapper(stream, encoding="utf-8", newline="", write_through=True)
        # Lines end in "\r\n", as in RFC 4180. With "\n", Python before 3.13 writes a "\r" in a cell without quotes.
        writer = csv.DictWriter(text, (*_BEFORE, *(_SCORES + label for label in spec.labels), *_AFTER))
        writer.writeheader()
        for page in pages:
            for entry in _entries(page, spec):
                told = {_SCORES + label: score for label, score in (entry.pop("scores") or {}).items()}
                writer.writerow(entry | told | {"tags": join_names(entry["tags"] or ())})
        text.detach()  # the caller closes the stream

    def read(self, file: Path) -> Iterator[StoredRow]:
        before = csv.field_size_limit(_LONGEST)  # it is a setting of the whole process
        try:
            with file.open(encoding="utf-8", newline="") as stream:
                yield from _csv_rows(csv.DictReader(stream, strict=True))
        except csv.Error as error:
            raise ValueError(str(error)) from error
        finally:
            csv.field_size_limit(before)


def _csv_rows(reader: "csv.DictReader[str]") -> Iterator[StoredRow]:
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


class Parquet(Format):
    """`tags` is a list, `scores` a struct with a float32 per label; both are null if the photo is broken."""

    def check_labels(self, spec: TaggerSpec, file: Path) -> None:
        """Refuses labels that differ only by case: a query for one would get the scores of the other."""
        if fault := case_fault(spec.labels):
            raise UsageError(f"{file} cannot be Parquet: {fault}. Write .csv or .jsonl, or rename one of the labels.")

    def write(self, stream: IO[bytes], pages: Iterable[Page], spec: TaggerSpec) -> None:
        from serving.bulk.parquet_file import write_pages

        write_pages(stream, pages, spec)

    def read(self, file: Path) -> Iterator[StoredRow]:
        from serving.bulk.parquet_file import read_rows

        yield from read_rows(file)


FORMATS: dict[str, Format] = {".jsonl": JsonLines(), ".csv": Csv(), ".parquet": Parquet()}


def format_of(file: Path) -> Format:
    """The format for the suffix of `file`. Raises UsageError if there is none."""
    found = FORMATS.get(file.suffix.lower())
    if found is None:
        raise UsageError(f"{file} cannot be an output: end its name in {', '.join(FORMATS)}, or in / for a folder.")
    return found
