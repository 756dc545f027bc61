"""Runs each task in a process of its own with a time limit, and keeps what it printed even if it fails later."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.process_tree import processes_of

ROOT = Path(__file__).parent.parent.parent
Row = dict[str, Any]  # one measurement; `part` names the table that it belongs to


@dataclass(frozen=True)
class Task:
    """One process: `python -m MODULE ARGUMENTS`, for at most `seconds`. It prints rows, one JSON object per line.

    `part` and `title` say in the report what is missing if it fails.
    """

    part: str
    title: str
    module: str
    arguments: Sequence[str] = ()
    seconds: float = 60.0


@dataclass
class Results:
    """All rows so far, and why rows are missing: (part, title, reason)."""

    rows: list[Row] = field(default_factory=list)
    missing: list[tuple[str, str, str]] = field(default_factory=list)

    def of(self, part: str, **wanted: object) -> list[Row]:
        """Returns the rows of `part` that have these values."""
        return [row for row in self.rows if row["part"] == part and wanted.items() <= row.items()]


def emit(part: str, **values: Any) -> None:
    """Prints a row, in the process of a task."""
    print(json.dumps({"part": part, **values}), flush=True)


def run_task(task: Task, results: Results, scratch: Path, end: float) -> None:
    """Runs the task and adds its rows, and what is missing, to `results`."""
    text, reason = run_process(task, scratch, end)
    results.rows += rows_of(text)
    if reason:
        results.missing.append((task.part, task.title, reason))


def run_process(task: Task, scratch: Path, end: float) -> tuple[str, str]:
    """Runs the task, until the time `end` of time.monotonic() at most.

    Returns what it printed, and why it failed; empty if it did not.
    """
    limit = min(task.seconds, end - time.monotonic())
    if limit < 1:
        return "", "the time for this part was over"
    started, before = time.monotonic(), set(processes_of(os.getpid()))
    output, errors = scratch / "stdout.log", scratch / "stderr.log"
    with output.open("w") as stdout, errors.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", task.module, *task.arguments],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(scratch / "cache")},
            stdout=stdout,
            stderr=stderr,
        )
        try:
            status = process.wait(limit)
            reason = _reason(errors.read_text(errors="replace"), status) if status else ""
        except subprocess.TimeoutExpired:
            reason = f"it took longer than {limit:.0f} s"
            process.kill()
            process.wait()
        finally:
            _kill_all_but(before)
    seconds = time.monotonic() - started
    print(f"{task.part}, {task.title}: {reason or 'done'}, {seconds:.1f} s", file=sys.stderr, flush=True)
    return output.read_text(errors="replace"), reason


def rows_of(text: str) -> list[Row]:
    """Returns the rows among what a task printed; libraries may print other lines."""
    rows = []
    for line in text.splitlines():
        with suppress(ValueError):
            row = json.loads(line)
            if isinstance(row, dict) and "part" in row:
                rows.append(row)
    return rows


def _kill_all_but(others: Collection[int]) -> None:
    """Kills what a task has left: itself if its time is over, and servers that it started."""
    while left := processes_of(os.getpid()).keys() - others:
        for process in left:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
            with suppress(ChildProcessError):  # its own parent has not ended yet
                os.waitpid(process, os.WNOHANG)
        time.sleep(0.02)


def _reason(errors: str, status: int) -> str:
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    last = lines[-1] if lines else "it wrote nothing"
    return f"{last[:300]} (exit status {status})"
