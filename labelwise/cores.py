"""How much of this machine this process may use, also in a container."""

import contextlib
import math
import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_NO_LIMIT = 2**60  # version 1 writes a number near 2**63


def usable_cores() -> int:
    """Counts the cores in the process's affinity mask, or fewer if a container's limit allows only the time of fewer.

    macOS and Windows have no mask, so there it counts all cores.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, math.ceil(core_limit() or cores)))


def core_limit() -> float | None:
    """The cores whose time this process's container may use, as `docker run --cpus` sets it; None without a limit."""
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = (_CGROUP / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):  # version 1
        quota, period = ((_CGROUP / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 else None
    return None


def memory_limit() -> int | None:
    """The bytes that this process's container may use; None without a limit."""
    for file in ("memory.max", "memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            limit = int((_CGROUP / file).read_text())
            return limit if limit < _NO_LIMIT else None
    return None


def memory_of_machine() -> int | None:
    """The bytes of the machine's memory; None where the system does not tell."""
    with contextlib.suppress(AttributeError, ValueError, OSError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return None


def processor() -> dict[str, str]:
    """What Linux tells of the first core, by name, such as `model name` and `flags`; empty on other systems."""
    with contextlib.suppress(OSError):
        first = Path("/proc/cpuinfo").read_text("utf-8", "replace").partition("\n\n")[0]
        pairs = (line.partition(":") for line in first.splitlines())
        return {name.strip(): value.strip() for name, _, value in pairs}
    return {}
