"""Logs Python's warnings, such as Pillow's about odd photos, in one line without path and code."""

import logging
import warnings
from typing import TextIO


def log_warnings() -> None:
    """Sets this up for the whole process, with the logger `py.warnings`."""
    warnings.showwarning = _log


def _log(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    logging.getLogger("py.warnings").warning("%s: %s", category.__name__, " ".join(str(message).split()))
