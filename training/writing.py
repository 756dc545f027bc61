"""Turns an error of the file system into one clear line."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from labelwise.errors import LabelwiseError


@contextmanager
def explained(file: Path, advice: str = "make room or repair the folder, then go on with --resume") -> Iterator[None]:
    """For a block that writes `file`. Raises LabelwiseError with `advice` if it cannot be written."""
    try:
        yield
    except OSError as error:
        raise LabelwiseError(f"{file} cannot be written: {error.strerror or error}; {advice}.") from error
