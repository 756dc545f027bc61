"""Runs `labelwise teach --json`: a process with a lower priority, which ends with its lesson's request, or with us."""

import asyncio
import contextlib
import json
import logging
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

from serving import processes
from serving.gateway.requests.deadline import Deadline, deadline_exceeded

logger = logging.getLogger("labelwise.lesson")

Step = Mapping[str, Any]  # {"step": "look", "done": 32, "of": 80}

_PROGRAM = "import sys; sys.path[:] = {path!r}; from commands import main; main()"
_NICENESS = 10  # photos are tagged meanwhile
_LONGEST_LINE = 16 * 2**20  # bytes; the result names every photo that was left out
_LAST_LINES = 20  # of standard error, for the log
_ENDS_WITHIN = 5.0  # seconds after its result, and after SIGTERM
_PUBLISHES_WITHIN = 15.0  # seconds; what is nearly published is better than what is half published


class LessonEnded(Exception):
    """The lesson did not succeed. `kind` is that of `labelwise teach --json`; the message may name paths."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class _Heard(NamedTuple):
    result: dict[str, Any] | None
    error: LessonEnded | None


async def run_lesson(
    arguments: Sequence[str],
    deadline: Deadline,
    tell: Callable[[Step], Awaitable[None]],
    on_published: Callable[[], None],
) -> dict[str, Any]:
    """Returns the result of `labelwise teach` with `arguments`; `tell` gets each step.

    Raises LessonEnded, GatewayError `deadline_exceeded`, and OSError if no process can be started. If it is cancelled,
    the lesson ends without a new version, unless that is being published already. `on_published` is called if there is
    a new version, also before an error.
    """
    process = await _start(arguments)
    last_lines: deque[str] = deque(maxlen=_LAST_LINES)
    errors = asyncio.create_task(_follow(process, last_lines))
    conversation = _Conversation(process, tell)
    try:
        heard = await asyncio.wait_for(conversation.listen(), deadline.left())
        conversation.is_publishing = False  # that was its last word
        if heard.result is not None:
            on_published()
        if await _has_ended(process, _ENDS_WITHIN):
            await asyncio.wait([errors], timeout=_ENDS_WITHIN)  # another process may hold it open
    except asyncio.TimeoutError:
        raise deadline_exceeded() from None
    finally:
        if process.returncode is None:
            await _end(process, conversation.is_publishing)
        if conversation.is_publishing and process.returncode == 0:
            on_published()
        errors.cancel()
    if heard.result is not None:
        return heard.result
    if heard.error is not None:
        raise heard.error
    raise LessonEnded("failed", f"it ended with status {process.returncode}: {' | '.join(last_lines) or 'no word'}")


async def _start(arguments: Sequence[str]) -> Process:
    program = (sys.executable, "-c", _PROGRAM.format(path=sys.path), "teach", *arguments, "--json")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", processes.__file__, str(os.getpid()), *program),
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
        start_new_session=True,  # Ctrl-C reaches the gateway only
        limit=_LONGEST_LINE,
    )
    with contextlib.suppress(OSError):  # it has ended already
        os.setpriority(os.PRIO_PROCESS, process.pid, _NICENESS)  # before it has threads, which inherit it
    return process


class _Conversation:
    """What the process says on standard output: a line of JSON for each step, then the result or the error."""

    def __init__(self, process: Process, tell: Callable[[Step], Awaitable[None]]) -> None:
        self._process, self._tell = process, tell
        self.is_publishing = False

    async def listen(self) -> _Heard:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            try:
                said = json.loads(line)
            except ValueError:
                continue  # what a library prints
            if not isinstance(said, dict):
                continue
            if "step" in said:
                self.is_publishing = said["step"] == "publish"
                await self._tell(said)
            elif "error" in said:
                return _Heard(None, LessonEnded(said["kind"], said["error"]))
            elif "result" in said:
                return _Heard(said["result"], None)
        return _Heard(None, None)


async def _follow(process: Process, lines: deque[str]) -> None:
    assert process.stderr is not None
    with contextlib.suppress(ValueError):  # a line beyond the limit
        async for line in process.stderr:
            lines.append(line.decode(errors="replace").rstrip())


async def _end(process: Process, is_publishing: bool) -> None:
    """Ends the process, and waits for its end. Whenever it ends, the version before stays servable."""
    if is_publishing and await _has_ended(process, _PUBLISHES_WITHIN):
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    if not await _has_ended(process, _ENDS_WITHIN):
        logger.warning("the lesson in process %d is killed: it did not end by itself", process.pid)
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _has_ended(process: Process, within: float) -> bool:
    try:
        await asyncio.wait_for(process.wait(), within)
    except asyncio.TimeoutError:
        return False
    return True
