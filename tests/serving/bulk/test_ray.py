"""On a real local Ray with two workers: the same table as in one process, also when a worker is killed."""

import importlib.util
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import scenes_only
from tests.polling import PATIENCE
from tests.serving.bulk.conftest import ROOT, Tag, assert_same, rows_of, tag_command

pytestmark = pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="the `ray` extra is not installed")


def test_two_workers_of_which_one_is_killed(
    tag: Tag, many: Callable[[int], Path], photos: Path, committed: list[Path], tmp_path: Path
):
    many(40)
    shutil.make_archive(str(tmp_path / "more"), "zip", committed[0].parent)
    tag("photos", "more.zip", "--out", "alone.parquet")
    run = subprocess.Popen(
        tag_command("photos", "more.zip", "--out", "parts/", "--ray", "--workers", 2, "--repository", scenes_only()),
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "RAY_TMPDIR": "/tmp"},  # a socket's path may not be long
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    killed = kill_an_actor(run)
    printed, said = run.communicate(timeout=PATIENCE)
    assert run.returncode == 1, printed + said  # two photos are broken
    assert killed
    assert_same(rows_of(tmp_path / "parts"), rows_of(tmp_path / "alone.parquet"))
    assert not (tmp_path / "parts.journal").exists()


def kill_an_actor(run: subprocess.Popen[str]) -> bool:
    """Kill one of the run's own workers, once there is one."""
    while run.poll() is None:
        for status in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                name = status.read_text().replace("\0", " ")
            except OSError:
                continue
            if "_TaggingActor" in name and descends(int(status.parent.name), run.pid):
                os.kill(int(status.parent.name), signal.SIGKILL)
                return True
        time.sleep(0.1)
    return False


def descends(process: int, ancestor: int) -> bool:
    while process > 1:
        if process == ancestor:
            return True
        try:
            process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return False
    return False
