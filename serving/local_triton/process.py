"""One run of Triton: it never outlives this process, its log is followed, and what it leaves is cleared away."""

import asyncio
import contextlib
import logging
import os
import re
import signal
import sys
import time
from asyncio.subprocess import Process
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from labelwise.repository import VersionKey, tagger_of
from serving import processes

logger = logging.getLogger("labelwise.triton")

SHARED_MEMORY = Path("/dev/shm")
_STUBS_LEAVE_WITHIN = 2.0  # seconds; the Python backend's processes notice Triton's end by themselves
_LONGEST_LOG_LINE = 1 << 20  # bytes
_LOG_LINE = re.compile(r"([IWEF])\d{4} [\d:.]+ +\d+ [\w.]+:\d+\] *(.*)")
_LEVELS = {"I": logging.INFO, "W": logging.WARNING, "E": logging.ERROR, "F": logging.CRITICAL}
_NO_GPU = re.compile(
    r"pinned_memory_manager|NVML|DCGM|CudaDriverHelper|CUDA (memory pool disabled|driver version is insufficient)"
)
_PLAIN_ERROR = re.compile(r"error: |.*: unrecognized option|.*error while loading shared libraries")
_BACKEND_LOADED = "TRITONBACKEND_ModelInstanceInitialize"  # the beginning of a message
_UNLOADABLE = re.compile(r"failed to load '([^']+)' version (\d+): (.*)")


class TritonProcess:
    """A Triton that was started; its log goes to ours.

    `unloadable` are the versions that it could not load, with the reasons. `complaint` is the first error in its log,
    otherwise the last line. Its owner sets `serves`.
    """

    def __init__(self, process: Process, regions: str, scratch_before: set[Path]) -> None:
        assert process.stdout is not None
        self._process, self._regions = process, regions
        self._scratch_before = scratch_before
        self._scratch: Path | None = None
        self.serves = False
        self.unloadable: dict[VersionKey, str] = {}
        self.complaint = "nothing in its log"
        self._log = asyncio.create_task(self._follow(process.stdout))

    @classmethod
    async def start(cls, command: Sequence[str], environment: Mapping[str, str], regions: str) -> "TritonProcess":
        """Run `command` in its own process group. The kernel kills it if this process ends.

        `regions` begins the names of its shared memory. Raises OSError if no process can be started.
        """
        before = _scratch_folders()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", processes.__file__, str(os.getpid()), *command),
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches the gateway only, and one kill reaches the backends' processes too
            limit=_LONGEST_LOG_LINE,
        )
        return cls(process, regions, before)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def status(self) -> int | None:
        """Its exit status, as subprocess gives it; None while it runs."""
        return self._process.returncode

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def stop(self, within: float, has_work: Callable[[], bool]) -> None:
        """Ask it to end, kill it after `within` seconds or once it has no work, and clear away what it started.

        By itself, Triton takes three seconds to end: it looks once a second whether its models are gone, and waits for
        its next metrics. It also does so if what it would leave is not known.
        """
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        await self._until(lambda: self.status is not None or (self._scratch is not None and not has_work()), within)
        await self.clear_away()

    async def ended(self, within: float) -> bool:
        """Returns whether it ended within so many seconds."""
        return await self._until(lambda: self.status is not None, within)

    @staticmethod
    async def _until(condition: Callable[[], bool], within: float) -> bool:
        """Returns whether the condition came true within so many seconds.

        Polls, because `wait` may also wait for other processes that hold the output, such as a stub.
        """
        deadline = time.monotonic() + within
        while not condition():
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.05)
        return True

    async def clear_away(self, *, at_once: bool = False) -> None:
        """Leave no process of Triton's group behind, nor shared memory, nor its log unread.

        What Triton started leaves by itself when Triton stops; `at_once` does not wait for that.
        """
        if self.status is not None and not at_once:
            # Its log ends when the last of the group has left.
            await asyncio.wait([self._log], timeout=_STUBS_LEAVE_WITHIN)
        if not self._log.done():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            await self.ended(_STUBS_LEAVE_WITHIN)
            await asyncio.wait([self._log], timeout=1)
            self._log.cancel()
        self._remove_leftovers()

    def find_scratch(self) -> Path | None:
        """Returns the empty folder that the Python backend made in /tmp, whatever TMPDIR is; a killed Triton leaves it.

        Returns None if several were made in the meantime, because then Triton's is unknown. Call this once Triton
        serves.
        """
        if self._scratch is None:
            made = _scratch_folders() - self._scratch_before
            self._scratch = made.pop() if len(made) == 1 else None
        return self._scratch

    def _remove_leftovers(self) -> None:
        for region in SHARED_MEMORY.glob(f"{self._regions}*"):  # of processes that were killed
            region.unlink(missing_ok=True)
        if self._scratch is not None:
            with contextlib.suppress(OSError):  # a Triton that ended well has removed it
                self._scratch.rmdir()

    async def _follow(self, output: asyncio.StreamReader) -> None:
        complained = False
        while True:
            try:
                line = await output.readline()
            except ValueError:  # longer than the limit; readline has dropped it
                continue
            if not line:
                return
            level, message = parse_line(line.decode(errors="replace").rstrip())
            logger.log(level, "%s", message)
            if found := _UNLOADABLE.match(message):
                model, number, reason = found.groups()
                self.unloadable[tagger_of(model), int(number)] = f"Triton cannot load {model}: {first_line(reason)}"
            if message.startswith(_BACKEND_LOADED):
                self.find_scratch()  # now, before others make theirs
            if not complained and message:
                complained = level >= logging.ERROR
                self.complaint = first_line(message)


def _scratch_folders() -> set[Path]:
    return set(Path("/tmp").glob("python_env_*"))


def first_line(message: str) -> str:
    """Returns the first line of a message. In its log, Triton writes line ends as \\n."""
    return message.partition("\\n")[0].partition("\n")[0][:500]


def parse_line(line: str) -> tuple[int, str]:
    """Returns level and message of one line of the log. That there is no GPU is not worth a warning."""
    if match := _LOG_LINE.match(line):
        level, message = _LEVELS[match[1]], match[2].strip('"')
    else:
        level, message = logging.ERROR if _PLAIN_ERROR.match(line) else logging.INFO, line
    if _NO_GPU.search(line) or not message or message[0] in "+|":  # + and | frame tables
        level = logging.DEBUG
    return level, message
