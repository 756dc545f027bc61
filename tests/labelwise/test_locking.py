"""A lock keeps other processes out, and ends with the process that holds it."""

import subprocess
import sys
from pathlib import Path

import pytest

from labelwise.locking import locked_folder

_HOLDER = """
import sys
from pathlib import Path
from labelwise.locking import locked_folder
with locked_folder(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_lock_keeps_others_out_until_its_process_is_killed(tmp_path: Path):
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(BlockingIOError), locked_folder(tmp_path, wait=False):
            pass
        holder.kill()
        holder.wait()
        with locked_folder(tmp_path, wait=False):
            pass


def test_a_missing_folder_cannot_be_locked(tmp_path: Path):
    with pytest.raises(FileNotFoundError), locked_folder(tmp_path / "nowhere"):
        pass
