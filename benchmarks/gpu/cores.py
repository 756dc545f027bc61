"""Which cores the server has, and which its clients."""

import os


def cores_of_server() -> set[int]:
    """Returns all usable cores but one, which is the clients'; of one core, that one."""
    usable = sorted(os.sched_getaffinity(0))
    return set(usable[:-1] or usable)
