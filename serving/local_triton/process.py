"""Triton's process: started so that it never outlives this one, and what can be seen of it from outside."""

import asyncio
import contextlib
import os
import socket
import sys
import time
from asyncio.subprocess import Process
from collections.abc import Mapping, Sequence
from pathlib import Path

from labelwise.errors import LabelwiseError
from serving import parent_death

_LONGEST_LOG_LINE = 1 << 20  # bytes


class PythonScratch:
    """The empty folder that Triton's Python backend makes in /tmp, whatever TMPDIR is, and that a killed Triton leaves.

    To be made before Triton is started, and asked once it serves.
    """

    def __init__(self) -> None:
        self._before = self._all()
        self.folder: Path | None = None

    def find(self) -> Path | None:
        """Returns the folder, or None if several were made meanwhile: then it is unknown which one is Triton's."""
        made = self._all() - self._before
        self.folder = made.pop() if len(made) == 1 else None
        return self.folder

    def remove(self) -> None:
        if self.folder is not None:
            with contextlib.suppress(OSError):  # a Triton that ended well has removed it
                self.folder.rmdir()

    @staticmethod
    def _all() -> set[Path]:
        return set(Path("/tmp").glob("python_env_*"))


async def start(command: Sequence[str], environment: Mapping[str, str]) -> Process:
    """Run `command` in its own process group, with its log in one pipe. The kernel kills it if this process ends."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", parent_death.__file__, str(os.getpid()), *command),
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,  # Ctrl-C reaches the gateway only, and one kill reaches the backends' processes too
        limit=_LONGEST_LOG_LINE,
    )


def require_free(host: str, port: int, use: str) -> None:
    """Raises LabelwiseError if nothing can listen there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # closed connections that linger do not count
        try:
            probe.bind((host, port))
        except OSError as error:
            raise LabelwiseError(f"Triton cannot use {host}:{port} for {use}: {error.strerror}.") from error


async def listens(host: str, port: int) -> bool:
    """Whether connections are accepted there."""
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


async def ended(process: Process, within: float) -> bool:
    """Whether `process` ended within so many seconds."""
    deadline = time.monotonic() + within
    # Polled, because `wait` may also wait for whoever else holds the process's output, such as a stub.
    while process.returncode is None:
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.05)
    return True
