"""Temporary folders are removed, however their process ends."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from labelwise.errors import LabelwiseError
from serving.temporary import TemporaryFolder
from tests.conftest import ROOT
from tests.polling import until

_OWNER = """
import pathlib, sys, time
from serving.temporary import TemporaryFolder
with TemporaryFolder("test") as folder:
    pathlib.Path(folder, "file").write_text("content")
    print(folder, flush=True)
    sys.stdin.read()
"""


def test_removed_at_the_end_of_the_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with TemporaryFolder("test") as folder:
        assert Path(folder).parent == tmp_path
        assert "test" in Path(folder).name
        Path(folder, "file").write_text("content")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(LabelwiseError, match=r"Cannot make a temporary folder for test: .* TMPDIR can name another"):
        TemporaryFolder("test")


def test_a_folder_that_cannot_be_removed_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EBUSY, "busy")

    with monkeypatch.context() as patch, TemporaryFolder("test") as folder:
        patch.setattr("shutil.rmtree", refuse)
    assert f"{folder} cannot be removed" in caplog.text


@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")
@pytest.mark.parametrize("with_its_group", [False, True])
def test_removed_after_its_process_is_killed(tmp_path: Path, with_its_group: bool):
    with subprocess.Popen(
        [sys.executable, "-c", _OWNER],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as owner:
        assert owner.stdout
        folder = Path(owner.stdout.readline().strip())
        assert (folder / "file").is_file()
        if with_its_group:
            os.killpg(owner.pid, signal.SIGKILL)
        else:
            owner.kill()
        owner.wait()
    until(lambda: not folder.exists())


@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")
def test_removes_files_and_empty_folders_elsewhere_with_it(tmp_path: Path):
    takes_along = "    for pattern in sys.argv[1:]: folders.takes_along(pathlib.Path(pattern))\n"
    program = _OWNER.replace("    print(folder", f"{takes_along}    print(folder")
    program = program.replace(
        'with TemporaryFolder("test") as folder:', 'folders = TemporaryFolder("test")\nwith folders as folder:'
    )
    elsewhere = tmp_path / "another folder"
    elsewhere.mkdir()
    files = [tmp_path / name for name in ("a region 1", "a region 2")]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", program, str(elsewhere), str(tmp_path / "a region *"), str(tmp_path / "nothing *")],
        cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as owner:  # fmt: skip
        assert owner.stdout
        owner.stdout.readline()
        for file in files:
            file.touch()
        owner.kill()
        owner.wait()
    until(lambda: not list(tmp_path.iterdir()))
