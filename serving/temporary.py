"""Temporary folders that are removed when this process ends, however it ends."""

import contextlib
import os
import subprocess
import tempfile
from pathlib import Path

from labelwise.errors import LabelwiseError

# Reads until this process ends, and so closes the pipe; each line is one more pattern. What a terminal or a service
# manager tells everybody is no reason to remove the folder under a process that is still ending.
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
    """A new folder with `use` in its name. Raises LabelwiseError if none can be made, as on a read-only file system.

    `cleanup`, or the end of the `with` block, removes it. If this process is killed before that, a process that only
    waits for this removes it (where there is a POSIX shell).
    """

    def __init__(self, use: str) -> None:
        try:
            self._folder = tempfile.TemporaryDirectory(prefix=f"labelwise-{use}-")
        except OSError as error:
            raise LabelwiseError(
                f"No temporary folder for {use} can be made: {error.strerror}. TMPDIR can name another place."
            ) from error
        self.name = self._folder.name
        self._janitor = _start_janitor(self.name)

    def __enter__(self) -> str:
        return self.name

    def __exit__(self, *_: object) -> None:
        self.cleanup()

    def takes_along(self, pattern: Path) -> None:
        """Has the files and empty folders that match `pattern` then removed too if this process is killed."""
        if self._janitor is not None and self._janitor.stdin is not None:
            with contextlib.suppress(OSError):
                self._janitor.stdin.write(os.fsencode(pattern) + b"\n")
                self._janitor.stdin.flush()

    def cleanup(self) -> None:
        """Removes the folder. Safe to call twice."""
        self._folder.cleanup()
        if self._janitor is not None:
            janitor, self._janitor = self._janitor, None
            assert janitor.stdin is not None
            janitor.stdin.close()
            janitor.wait()


def _start_janitor(folder: str) -> "subprocess.Popen[bytes] | None":
    if os.name != "posix":
        return None
    with contextlib.suppress(OSError):  # such as no process left to be had: then a kill leaves the folder behind
        return subprocess.Popen(
            ["/bin/sh", "-c", _JANITOR, "labelwise-janitor", folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )
    return None
