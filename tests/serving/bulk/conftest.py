"""`labelwise tag` as a user runs it, and photos under many names."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from commands import main
from tests.conftest import scenes_only
from tests.polling import PATIENCE

ROOT = Path(__file__).parents[3]

Tag = Callable[..., subprocess.CompletedProcess[str]]


def tag_command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "labelwise", "tag", *map(str, arguments)]


def run_here(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> subprocess.CompletedProcess[str]:
    """Runs a command line to its end in this process, which starts no second Python."""
    monkeypatch.setattr(sys, "argv", command)
    capsys.readouterr()
    try:
        main()
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 0
    return subprocess.CompletedProcess(command, code, *capsys.readouterr())


@pytest.fixture
def tag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Tag:
    """tag(*arguments) runs the command to its end, in the test's folder; with `**how` in a process of its own.

    `input` is what it reads from standard input.
    """
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object, input: str | None = None, **how: Any) -> subprocess.CompletedProcess[str]:
        repository = () if {"--repository", "--server"} & {*arguments} else ("--repository", scenes_only())
        command = tag_command(*arguments, *repository)
        if how:
            environment = os.environ | {"PYTHONPATH": str(ROOT)}
            return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, env=environment, **how)
        with tempfile.TemporaryFile("w+") as stdin:
            stdin.write(input or "")
            stdin.seek(0)
            monkeypatch.setattr(sys, "stdin", stdin)
            return run_here(command[2:], monkeypatch, capsys)

    return run


@pytest.fixture(scope="session")
def triton_url(triton_gateway_url: str, triton_arguments: dict[str, str]) -> str:
    """The gRPC address of the Triton that the gateway started."""
    return f"grpc://127.0.0.1:{triton_arguments['triton_grpc_port']}"


@pytest.fixture(scope="session")
def committed() -> list[Path]:
    return sorted((ROOT / "tests/assets/photos").glob("*.jpg"))


@pytest.fixture
def photos(tmp_path: Path, committed: list[Path]) -> Path:
    """The committed photos, one that is cut off, and a text named like a photo."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for photo in committed:
        shutil.copy(photo, folder)
    (folder / "cut.jpg").write_bytes(committed[0].read_bytes()[:9000])
    (folder / "text.png").write_text("not a photo")
    return folder


@pytest.fixture
def many(tmp_path: Path, committed: list[Path]) -> Callable[[int], Path]:
    """many(n) is a folder of n photos in folders below it: the committed ones, under many names."""

    def make(count: int) -> Path:
        for index in range(count):
            photo = committed[index % len(committed)]
            file = tmp_path / f"photos/{index % 7}/{index:05d}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(photo.read_bytes())
        return tmp_path / "photos"

    return make


def rows_of(file: Path) -> dict[str, dict[str, Any]]:
    """The rows of a Parquet file or folder by path; fails if a path is there twice."""
    files = sorted(file.glob("*.parquet")) if file.is_dir() else [file]
    rows = [row for part in files for row in pq.read_table(part).to_pylist()]
    by_path = {row["path"]: row for row in rows}
    assert len(by_path) == len(rows)
    return by_path


def assert_same(found: dict[str, dict[str, Any]], wanted: dict[str, dict[str, Any]]) -> None:
    """Each photo's row is the same. Scores may differ by what another batch size changes in the last digit."""
    assert found.keys() == wanted.keys()
    for path, row in wanted.items():
        other = found[path]
        assert {**other, "scores": None} == {**row, "scores": None}, path
        if other["scores"] != row["scores"]:
            assert other["scores"] == pytest.approx(row["scores"], abs=2e-6), path
