"""Starts that fail, in this process: a process of its own would import the gateway again each time."""

import logging
import shutil
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from commands import main
from tests.conftest import ROOT


class Ended(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Ended]]:
    """serve(*arguments) -> what `labelwise serve` does that fails to start. It runs in this process."""

    root, hang_up = logging.getLogger(), signal.getsignal(signal.SIGHUP)
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)

    def run(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["labelwise", "serve", "--port", "0", *arguments])
        capsys.readouterr()
        handlers, level = root.handlers[:], root.level
        root.handlers.clear()  # otherwise the gateway would close those of pytest
        try:
            with pytest.raises(SystemExit) as stop:
                main()
        finally:
            root.handlers[:] = handlers
            root.setLevel(level)
        assert isinstance(stop.value.code, int)
        return Ended(stop.value.code, *capsys.readouterr())

    yield run
    signal.signal(signal.SIGHUP, hang_up)


def assert_one_line(result: Ended, *parts: str) -> None:
    assert result.returncode == 1
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("labelwise: ")
    assert all(part in line for part in parts), line
    assert result.stdout == ""


@pytest.fixture
def broken(repository: Path, tmp_path: Path) -> Path:
    """A copy of the bundled repository, to break."""
    return Path(shutil.copytree(repository, tmp_path / "repository"))


@pytest.fixture
def untidy(broken: Path) -> Path:
    """A repository with other folders in it, which do not matter."""
    (broken / "notes").mkdir()
    (broken / ".staging-left-by-a-killed-export").mkdir()
    return broken
