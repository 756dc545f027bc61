"""Work in processes: results, failures, killed processes and threads. Signals: test_compare.py, on real trainings."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from labelwise.errors import LabelwiseError
from training.processes import run_all, threads_of_each
from training.signals import Stopped

ROOT = Path(__file__).parents[2]


def test_every_task_is_done_once_and_processes_are_kept():
    results: list[tuple[int, int, int]] = []
    tasks = [f"({number}, __import__('os').getpid(), __import__('torch').get_num_threads())" for number in range(6)]
    run_all(eval, tasks, 2, 3, results.append)
    assert sorted(number for number, _, _ in results) == list(range(6))
    assert len({process for _, process, _ in results}) <= 2
    assert {threads for _, _, threads in results} == {3}


@pytest.mark.parametrize(
    ("number", "error", "message"),
    [
        (signal.SIGKILL, LabelwiseError, r"killed, perhaps because memory ran out: start again with fewer --jobs\."),
        (signal.SIGTERM, Stopped, "Stopped"),
    ],
)
def test_a_killed_process_is_one_line(number: int, error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        run_all(signal.raise_signal, [number], 1, 1, print)


def test_one_failure_stops_the_others(capfd: pytest.CaptureFixture[str]):
    began = time.monotonic()
    tasks = ["__import__('time').sleep(300)", "1 / 0", "__import__('time').sleep(300)"]
    with pytest.raises(LabelwiseError, match="failed, as shown above"):
        run_all(eval, tasks, 2, 1, print)
    assert time.monotonic() - began < 100
    assert "ZeroDivisionError" in capfd.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_while_the_processes_start_is_not_lost(number: signal.Signals):
    """The signal comes before torch is imported there; nothing is said, and the handlers are as before."""
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    results: list[None] = []
    tasks = [f"__import__('os').kill({os.getpid()}, {int(number)})", "__import__('time').sleep(300)"]
    with pytest.raises(Stopped):
        run_all(eval, [*tasks, *tasks], 2, 1, results.append)
    assert len(results) <= 1
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_work_ends_with_a_parent_that_is_killed():
    """A training then saves and ends: see test_training_run.py."""
    task = "print('begun', flush=True), __import__('time').sleep(300)"
    script = f"from training.processes import run_all; run_all(eval, [{task!r}], 1, 1, print)"
    process = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.kill()
    process.communicate(timeout=60)  # ends when nobody holds the pipe: no orphan is left


def test_threads_follow_the_affinity_and_torchs_own_bound():
    assert threads_of_each(1) == torch.get_num_threads() == 1  # tests/training/conftest.py
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system has no affinity")
    allowed = os.sched_getaffinity(0)
    torch.set_num_threads(64)
    try:
        assert threads_of_each(1) == len(allowed)
        assert threads_of_each(1000) == 1
        os.sched_setaffinity(0, {min(allowed)})
        assert threads_of_each(1) == 1
    finally:
        os.sched_setaffinity(0, allowed)
        torch.set_num_threads(1)
