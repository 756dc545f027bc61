"""Python's warnings as lines of the log. Its own way prints path and code too; Pillow warns of odd photos."""

import logging
import warnings
from typing import TextIO


def log_warnings() -> None:
    """For the whole process, as the logger `py.warnings`."""
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
