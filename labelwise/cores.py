"""How many CPU cores this process may use."""

import os


def usable_cores() -> int:
    """Counts the cores in the process's affinity mask; macOS and Windows have none, so there it counts all cores."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
