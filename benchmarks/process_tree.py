"""What a process and all below it use, read from /proc. Linux only."""

import contextlib
import ctypes
import os
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """From now on, processes below this one stay below it even if their parents end."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def processes_of(root: int) -> dict[int, float]:
    """Returns the CPU seconds of a process and of all below it, by process id."""
    children: dict[int, list[int]] = {}
    used: dict[int, float] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            fields = stat.read_text().rpartition(")")[2].split()
            process = int(stat.parent.name)
            children.setdefault(int(fields[1]), []).append(process)
            used[process] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    below, found = [root], {}
    while below:
        process = below.pop()
        found[process] = used.get(process, 0.0)
        below += children.get(process, [])
    return found


def cpu_of(root: int) -> float:
    """Returns the CPU seconds of a process and of all below it."""
    return sum(processes_of(root).values())


def memory_of(processes: list[int]) -> float:
    """Returns the memory in MiB (PSS: shared pages count in shares) of these processes together."""
    total = 0
    for process in processes:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
    return total / 1024
