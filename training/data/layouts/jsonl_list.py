"""JSON lines: {"image": …, "labels": ["a", "b"], "unknown": ["c"], "split": "train"}, or a key per label."""

from pathlib import Path

from labelwise.errors import DataError
from labelwise.label_names import clean_name
from training.data.labelled_data import LabelledData
from training.data.layouts.layout_files import parse_json, read_text
from training.data.layouts.table import TableRow, read_table

NAME = "a list in JSON lines"
LAYOUT = "a JSONL, or a folder with labels.jsonl (the same as keys)"

_SUFFIXES = (".jsonl", ".ndjson")


def recognises(source: Path) -> bool:
    return (source.suffix.lower() in _SUFFIXES and source.is_file()) or (source / "labels.jsonl").is_file()


def read(source: Path, seed: int) -> LabelledData:
    file = source / "labels.jsonl" if source.is_dir() else source
    columns, rows = read_rows(file)
    return read_table(rows, columns, file, seed)


def read_rows(file: Path) -> tuple[list[str], list[TableRow]]:
    """Every key that an object has, and a row per photo. Raises DataError."""
    lines = enumerate(read_text(file, "JSON lines").split("\n"), 1)
    rows = [_read_row(line, text, file) for line, text in lines if text.strip()]
    if not rows:
        raise DataError(f"{file} lists no photos: a JSON object per line is needed.")
    return list(dict.fromkeys(name for row in rows for name in row.cells)), rows


def _read_row(line: int, text: str, file: Path) -> TableRow:
    cells = parse_json(text, f"{file}, line {line}")
    if not isinstance(cells, dict):
        raise DataError(f"{file}, line {line} must be a JSON object, not {text[:40]!r}.")
    named = {clean_name(key): value for key, value in cells.items()}
    if len(named) < len(cells):
        raise DataError(
            f"{file}, line {line}: two keys differ only by white space, or in the Unicode form of their letters."
        )
    return TableRow(file, line, named)
