"""Files are read and written whole."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from labelwise.files import sha256_of, write_atomically


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
