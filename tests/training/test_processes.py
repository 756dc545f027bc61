"""Work in processes: results, failures, killed processes. Signals: test_compare.py, on real trainings."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from labelwise.errors import LabelwiseError
from tests.polling import PATIENCE
from training.processes import run_all
from training.signals import Stopped

ROOT = Path(__file__).parents[2]


def test_every_task_is_done_once_and_processes_are_kept():
    results: list[tuple[int, int]] = []
    run_all(eval, [f"({number}, __import__('os').getpid())" for number in range(6)], 2, results.append)
    assert sorted(number for number, _ in results) == list(range(6))
    assert len({process for _, process in results}) <= 2


@pytest.mark.parametrize(
    ("number", "error", "message"),
    [
        (signal.SIGKILL, LabelwiseError, r"killed, perhaps because memory ran out: start again with fewer --jobs\."),
        (signal.SIGTERM, Stopped, "Stopped"),
    ],
)
def test_a_killed_process_is_one_line(number: int, error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        run_all(signal.raise_signal, [number], 1, print)


def test_one_failure_stops_the_others(capfd: pytest.CaptureFixture[str]):
    began = time.monotonic()
    tasks = ["__import__('time').sleep(300)", "1 / 0", "__import__('time').sleep(300)"]
    with pytest.raises(LabelwiseError, match="failed, as shown above"):
        run_all(eval, tasks, 2, print)
    assert time.monotonic() - began < 100
    assert "ZeroDivisionError" in capfd.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_while_the_processes_start_is_not_lost(number: signal.Signals):
    """The signal comes while at least one of them starts; nothing is said, and the handlers are as before."""
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    results: list[None] = []
    tasks = [f"__import__('os').kill({os.getpid()}, {int(number)})", "__import__('time').sleep(300)"]
    with pytest.raises(Stopped):
        run_all(eval, [*tasks, *tasks], 2, results.append)
    assert len(results) <= 1
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_work_ends_with_a_parent_that_is_killed():
    """A training then saves and ends: see test_training_run.py."""
    task = "print('begun', flush=True), __import__('time').sleep(300)"
    script = f"from training.processes import run_all; run_all(eval, [{task!r}], 1, print)"
    process = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.kill()
    process.communicate(timeout=PATIENCE)  # ends when nobody holds the pipe: no orphan is left
