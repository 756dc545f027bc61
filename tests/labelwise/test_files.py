"""Files are read and written whole. A lock keeps other processes out, and ends with the process that holds it."""

import hashlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from labelwise.files import locked_folder, sha256_of, write_atomically

_HOLDER = """
import sys
from pathlib import Path
from labelwise.files import locked_folder
with locked_folder(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_sha256_of_a_file_longer_than_one_block(tmp_path: Path):
    content = bytes(range(256)) * 5000
    (tmp_path / "weights").write_bytes(content)
    assert sha256_of(tmp_path / "weights") == hashlib.sha256(content).hexdigest()


def test_several_threads_may_write_a_file(tmp_path: Path):
    file = tmp_path / ("n" * 250)  # what is written aside has a name, too
    contents = [bytes([at]) * 9000 for at in range(60)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(write_atomically, [file] * len(contents), contents))
    assert file.read_bytes() in contents
    assert list(tmp_path.iterdir()) == [file]


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
