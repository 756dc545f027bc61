"""A run that is killed at any moment and started again: each photo once, and a readable output at any time."""

import fcntl
import os
import random
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from serving.bulk.output_formats import format_of
from tests.conftest import scenes_only
from tests.polling import PATIENCE
from tests.serving.bulk.conftest import ROOT, Tag, assert_same, rows_of, tag_command

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="it reads processes' times from /proc")

KILLS = 20
FORKS = """if True:
    import os, sys
    from PIL import Image
    from commands import main
    import pyarrow.parquet, serving.bulk.tag_options, serving.bulk.tag_files, serving.engines.embedded
    Image.init()
    for _ in sys.stdin:
        run = os.fork()
        if not run:
            main()
        print(run, flush=True)
        os.waitpid(run, 0)
        print(flush=True)
"""
REPOSITORY = ("--repository", scenes_only())


def start(folder: Path, out: str, source: str = "photos") -> subprocess.Popen[str]:
    return subprocess.Popen(
        tag_command(source, "--out", out, *REPOSITORY),
        cwd=folder,
        stdin=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def work(process: int, seconds: float) -> None:
    """Wait until the process has had so many seconds of a core, however busy the machine is, or has ended."""
    ticks = seconds * os.sysconf("SC_CLK_TCK")
    while True:
        status = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        if status[0] == "Z" or sum(map(int, status[11:13])) >= ticks:
            return
        time.sleep(0.01)


@contextmanager
def runs_killed_after(seconds: Iterable[float], folder: Path, out: str) -> Iterator[Iterator[None]]:
    """Runs that are killed after so much work, one after the other. They are forks, which need not start Python."""
    command = [sys.executable, "-c", FORKS, *map(str, tag_command("photos", "--out", out, *REPOSITORY)[3:])]
    how = {"cwd": folder, "env": os.environ | {"PYTHONPATH": str(ROOT)}, "text": True}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **how) as forks:  # type: ignore[call-overload]

        def killed(seconds: float) -> None:
            forks.stdin.write("run\n")
            forks.stdin.flush()
            run = int(forks.stdout.readline())
            work(run, seconds)
            os.kill(run, signal.SIGKILL)
            while forks.stdout.readline() != "\n":
                pass

        yield map(killed, seconds)
        forks.stdin.close()


def test_a_run_killed_twenty_times_ends_with_each_photo_once(tag: Tag, many: Callable[[int], Path], tmp_path: Path):
    photos = many(100)
    broken = photos / "3/broken.jpg"
    broken.write_bytes((photos / "0/00000.jpg").read_bytes()[:500])
    assert tag("photos", "--out", "whole.parquet").returncode == 1
    whole, chance, sizes = rows_of(tmp_path / "whole.parquet"), random.Random(6), set[int]()
    assert len(whole) == 101

    moments = [chance.uniform(0, 0.7) for _ in range(KILLS)]
    with runs_killed_after(moments, tmp_path, "killed.parquet") as killed:
        for _ in killed:
            if (tmp_path / "killed.parquet").exists():
                found = rows_of(tmp_path / "killed.parquet")
                sizes.add(len(found))
                assert_same(found, {path: whole[path] for path in found})
    assert sizes  # some did come as far as an output

    end = tag("photos", "--out", "killed.parquet")
    assert (end.returncode, "101 rows" in end.stdout) == (1, True), end.stdout + end.stderr
    assert_same(rows_of(tmp_path / "killed.parquet"), whole)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["killed.parquet", "photos", "whole.parquet"]


@pytest.mark.parametrize("out", ["tags.jsonl", "tags/"])
def test_ctrl_c_keeps_what_is_done_and_the_next_run_goes_on(
    tag: Tag, many: Callable[[int], Path], tmp_path: Path, out: str
):
    many(200)
    process = start(tmp_path, out)
    journal = tmp_path / (out.rstrip("/") + ".journal")
    work(process.pid, 1.3)  # about half of it
    process.send_signal(signal.SIGINT)
    printed, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, printed + said
    assert "Stopped: run the same command again to continue." in printed
    assert "Stopping" in said
    done = read(tmp_path / out)
    assert 0 < len(done) < 200

    end = tag("photos", "--out", out)
    assert end.returncode == 0, end.stderr
    assert f"{len(done)} unchanged" in end.stdout
    assert len(read(tmp_path / out)) == 200
    assert not journal.exists()


def test_ctrl_c_ends_a_run_that_waits_for_a_list(tmp_path: Path):
    process = start(tmp_path, "t.csv", "-")
    assert process.stdin
    process.stdin.write("gone.jpg\n")
    process.stdin.flush()
    left = bytearray(4)
    while int.from_bytes(left, sys.byteorder) or not (tmp_path / "t.csv").exists():
        assert process.poll() is None
        fcntl.ioctl(process.stdin, termios.FIONREAD, left)  # bytes that it has not taken yet
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    with process.stdin, process.stdout, process.stderr:  # type: ignore[union-attr]
        assert process.wait(PATIENCE) == 130


def read(out: Path) -> list[str]:
    """The output's paths, by the project's own reader."""
    files = sorted(out.glob("part-*")) if out.is_dir() else [out]
    paths = [stored.row.path for file in files for stored in format_of(file).read(file)]
    assert len({*paths}) == len(paths)
    return paths


def test_two_runs_cannot_write_one_output(tag: Tag, many: Callable[[int], Path], tmp_path: Path):
    many(60)
    first = start(tmp_path, "tags.csv")
    while not (tmp_path / "tags.csv").exists():
        assert first.poll() is None
        time.sleep(0.02)
    first.send_signal(signal.SIGSTOP)
    second = tag("photos", "--out", "tags.csv")
    first.send_signal(signal.SIGCONT)
    assert (second.returncode, second.stdout) == (1, "")
    assert second.stderr.startswith("labelwise: Another run is writing here")
    assert second.stderr.count("\n") == 1
    first.communicate(timeout=PATIENCE)
    assert first.returncode == 0
    assert len(read(tmp_path / "tags.csv")) == 60
