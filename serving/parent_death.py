"""Ends a process with its parent, however the parent ends (Linux).

As a program, it becomes another one: python parent_death.py PARENT COMMAND…  A `preexec_fn` would do the same, and run
Python in a fork of a threaded process.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def end_with(parent: int) -> None:
    """Has the kernel kill this process when its parent, process `parent`, ends.

    The kernel's parent is the thread that started this process. What is set here survives `exec`.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before the line above
            sys.exit()


def _become(command: list[str]) -> None:
    try:
        os.execv(command[0], command)
    except OSError as error:
        sys.exit(f"error: {command[0]}: {error.strerror}")


if __name__ == "__main__":
    end_with(int(sys.argv[1]))
    _become(sys.argv[2:])
