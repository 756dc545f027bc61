"""Reading a layout's own files, and finding the photos they name."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from labelwise.errors import DataError
from labelwise.spreadsheet import HEAD_BYTES, encoding_of
from training.data.labelled import some


def read_text(file: Path, kind: str) -> str:
    """The text of `file`, in UTF-8, or in UTF-16 as Excel and PowerShell write it.

    Raises a DataError that says that it is not `kind` in either, or why it cannot be read.
    """
    try:
        with file.open("rb") as stream:
            encoding = encoding_of(stream.read(HEAD_BYTES))
        return file.read_text(encoding=encoding)
    except UnicodeError as error:
        raise DataError(f"{file} is not {kind} in UTF-8 or UTF-16: {error}. Save it as UTF-8.") from error
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}.") from error


def parse_json(text: str, place: str) -> Any:
    """What `text` holds; a DataError says what at `place` is not JSON."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}: " if "\n" in text else ""
        raise DataError(f"{place} is not JSON: {line}{error.msg}.") from error
    except (ValueError, RecursionError) as error:
        fault = "it is nested too deeply" if isinstance(error, RecursionError) else "a number has too many digits"
        raise DataError(f"{place} is not JSON: {fault}.") from error


def locate(names: Sequence[str], roots: Sequence[Path], source: Path) -> list[Path]:
    """Where each photo lies: in the first of `roots` that has it, and if none has, where it should lie in the first.

    Photos may be missing, which `check_photos` reports; DataError if all are, for then it is the place that is wrong.
    """
    # os.path, for which a name that no file can have is not there; Path raises an error instead.
    found = [next((root / name for root in roots if os.path.isfile(root / name)), None) for name in names]  # noqa: PTH113
    if names and not any(found):
        places = " or ".join(dict.fromkeys(map(str, roots)))
        raise DataError(f"No photo of {source} is there: {some(names)} should lie in {places}.")
    return [path or roots[0] / name for name, path in zip(names, found, strict=True)]
