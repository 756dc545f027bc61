"""Folders for as long as a process runs."""

import tempfile

from labelwise.errors import LabelwiseError


def temporary_folder(use: str) -> "tempfile.TemporaryDirectory[str]":
    """A new one, with `use` in its name. LabelwiseError where none can be made, as on a read-only file system."""
    try:
        return tempfile.TemporaryDirectory(prefix=f"labelwise-{use}-")
    except OSError as error:
        raise LabelwiseError(
            f"No temporary folder for {use} can be made: {error.strerror}. TMPDIR can name another place."
        ) from error
