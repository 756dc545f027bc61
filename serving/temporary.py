"""Temporary folders that are removed when this process ends, however it ends."""

import contextlib
import logging
import os
import subprocess
import tempfile
from pathlib import Path

from labelwise.errors import LabelwiseError

logger = logging.getLogger("labelwise")

# Reads patterns, one per line, until this process ends and so closes the pipe. It ignores signals that a terminal or a
# service manager sends to all processes: a process that is still ending needs its folder.
_JANITOR = """
trap '' HUP INT TERM
while IFS= read -r more; do set -- "$@" "$more"; done
rm -rf -- "$1"
shift
IFS=
for pattern; do
    for found in $pattern; do
        if [ -d "$found" ]; then rmdir -- "$found"; else rm -f -- "$found"; fi
    done
done
"""


class TemporaryFolder:
    """A new folder with `use` in its name. Raises LabelwiseError if that fails, as on a read-only file system.

    `cleanup`, or the end of the `with` block, removes it. If this process is killed first, a small process that waits
    for that removes it.
    """

    def __init__(self, use: str) -> None:
        try:
            self._folder = tempfile.TemporaryDirectory(prefix=f"labelwise-{use}-")
        except OSError as error:
            raise LabelwiseError(
                f"Cannot make a temporary folder for {use}: {error.strerror}. TMPDIR can name another place."
            ) from error
        self.name = self._folder.name
        self._janitor = _start_janitor(self.name)

    def __enter__(self) -> str:
        return self.name

    def __exit__(self, *_: object) -> None:
        self.cleanup()

    def takes_along(self, pattern: Path) -> None:
        """If this process is killed, the files and empty folders that match `pattern` are removed as well."""
        if self._janitor is not None and self._janitor.stdin is not None:
            with contextlib.suppress(OSError):
                self._janitor.stdin.write(os.fsencode(pattern) + b"\n")
                self._janitor.stdin.flush()

    def cleanup(self) -> None:
        """Removes the folder, or logs why that fails: what was done in it is done. Safe to call twice."""
        try:
            self._folder.cleanup()
        except OSError as error:
            logger.error("the temporary folder %s cannot be removed: %s", self.name, error)
        if self._janitor is not None:
            janitor, self._janitor = self._janitor, None
            assert janitor.stdin is not None
            janitor.stdin.close()
            janitor.wait()


def _start_janitor(folder: str) -> "subprocess.Popen[bytes] | None":
    with contextlib.suppress(OSError):  # such as too many processes: a kill then leaves the folder behind
        return subprocess.Popen(
            ["/bin/sh", "-c", _JANITOR, "labelwise-janitor", folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )
    return None
