"""The formats of an output, by the suffix of its name. Each is written page by page, and read back."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Protocol

from labelwise.spec import TaggerSpec
from serving.bulk.rows import Page, StoredRow
from serving.bulk.tag_errors import UsageError


class Format(Protocol):
    """A module of this package."""

    def write(self, stream: IO[bytes], pages: Iterable[Page], spec: TaggerSpec) -> None:
        """Write a whole file, also without any page."""

    def read(self, file: Path) -> Iterator[StoredRow]:
        """The rows. Raises ValueError, KeyError or OSError for a file that `write` did not write."""


def format_of(file: Path) -> Format:
    """The format for the suffix of `file`. Raises UsageError if there is none."""
    from serving.bulk.output_formats import csv_file, jsonl_file, parquet_file

    formats: dict[str, Format] = {".jsonl": jsonl_file, ".csv": csv_file, ".parquet": parquet_file}
    found = formats.get(file.suffix.lower())
    if found is None:
        raise UsageError(f"{file} cannot be an output: end its name in {', '.join(formats)}, or in / for a folder.")
    return found
