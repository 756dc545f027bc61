"""One decoder process, as the gateway's event loop sees it; child.py is what runs in it."""

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelwise.image import ImageError
from serving.decoding.messages import DENIED, GRANTED, HEAD_SIZE, Kind, pack, unpack_head
from serving.decoding.pixel_budget import PixelBudget, Share
from serving.workers import settle

logger = logging.getLogger("labelwise.decoder")

_PIPE_SIZE = 2**20  # bytes; enough for most photos and their pixels at once
_CHILD = "import sys; sys.path[:] = {path!r}; from serving.decoding.child import main; main({parent})"


class DecoderEnded(Exception):
    """The process ended while it had the photo. `status` is subprocess's: negative for a signal."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the decoder process ended with status {status}")
        self.status = status

    @property
    def is_out_of_time(self) -> bool:
        return self.status == -signal.SIGPROF


@dataclass
class DecodeJob:
    """One photo: `said` is the message that goes with it, `pixels` the number that it may hold without asking."""

    said: dict[str, Any]
    data: bytes
    pixels: int
    answer: "asyncio.Future[tuple[dict[str, Any], NDArray[np.uint8]]]"
    queued: float
    process: "DecoderProcess | None" = None
    share: Share | None = None
    is_sent: bool = False
    is_denied: bool = False


class DecoderProcess:
    """One process, with one job at a time. Calls `on_free` when a job has ended and the next can begin.

    It starts at once. `ready` is done when it can work, `ended` is set when it is gone. Create it on a thread that
    outlives it: the kernel ends it with that thread.
    """

    def __init__(self, budget: PixelBudget, on_free: Callable[["DecoderProcess"], None]) -> None:
        self._budget, self._on_free = budget, on_free
        self._loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = self._loop.create_future()
        self.ended = asyncio.Event()
        self.job: DecodeJob | None = None
        self._killing: asyncio.TimerHandle | None = None
        self._child = _spawn()
        self._life = asyncio.create_task(self._live())

    @property
    def pid(self) -> int:
        return self._child.pid

    def begin(self, job: DecodeJob) -> None:
        """Begins `job` when the budget has room. Its answer becomes pixels, ImageError or DecoderEnded."""
        self.job, job.process = job, self
        job.share = self._budget.ask(job.pixels, lambda: self._soon(self._send_job, job))

    def give_up(self, within: float) -> None:
        """Nobody waits for the job now. If it is not done `within` seconds, the process ends."""
        job = self.job
        assert job is not None
        assert job.share is not None
        if not job.is_sent:
            self._free()
        elif job.share.is_held:
            self._killing = self._loop.call_later(within, self._end_late)
        else:
            self._deny(job)  # it waits for room

    def kill(self) -> None:
        self._child.kill()

    def _end_late(self) -> None:
        logger.warning("decoder process %d is killed: it still decodes a photo that no request waits for", self.pid)
        self.kill()

    def _soon(self, call: Callable[[DecodeJob], None], job: DecodeJob) -> None:
        """Calls on the loop: another thread may have made the room."""
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(call, job)

    def _send_job(self, job: DecodeJob) -> None:
        if self.job is job:
            job.is_sent = True
            self._send(pack(Kind.JOB, {**job.said, "pixels": job.pixels}, len(job.data)), job.data)

    def _grant(self, job: DecodeJob) -> None:
        if self.job is job and not job.is_denied:
            self._send(GRANTED)

    def _deny(self, job: DecodeJob) -> None:
        job.is_denied = True
        self._send(DENIED)

    def _send(self, *parts: bytes) -> None:
        if not self._pipe.is_closing():  # otherwise _live is about to end the job
            for part in parts:
                self._pipe.write(part)

    async def _live(self) -> None:
        """Reads the process's messages until it ends."""
        reader = asyncio.StreamReader(_PIPE_SIZE)
        await self._loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), self._child.stdout)
        self._pipe, _ = await self._loop.connect_write_pipe(asyncio.BaseProtocol, self._child.stdin)
        try:
            while True:
                kind, text_size, size = unpack_head(await reader.readexactly(HEAD_SIZE))
                said = json.loads(await reader.readexactly(text_size))
                self._on_message(kind, said, await reader.readexactly(size))
        except asyncio.IncompleteReadError:
            pass
        except Exception:
            logger.exception("decoder process %d wrote something else than messages", self.pid)
        self.kill()  # it is ending anyway, unless something in it has only closed the pipe
        self._pipe.close()
        self._on_end(DecoderEnded(await asyncio.to_thread(self._child.wait)))

    def _on_message(self, kind: Kind, said: Any, content: bytes) -> None:
        if kind == Kind.READY:
            settle(self.ready)
        elif kind == Kind.HOLD:
            self._on_hold(said)
        else:
            self._on_answer(kind, said, content)

    def _on_hold(self, pixels: int) -> None:
        """It now knows what it needs: it gets a share of that size, in its turn, in place of the one that it has."""
        job = self.job
        assert job is not None
        assert job.share is not None
        job.share.give_back()
        if job.answer.done():
            self._deny(job)
        else:
            job.share = self._budget.ask(pixels, lambda: self._soon(self._grant, job))

    def _on_answer(self, kind: Kind, said: dict[str, Any], content: bytes) -> None:
        assert self.job is not None
        for name, level, text in said.pop("log"):
            logging.getLogger(name).log(level, "%s", text)
        if kind == Kind.DONE:
            settle(self.job.answer, (said, np.frombuffer(content, np.uint8).reshape(said.pop("shape"))))
        else:
            settle(self.job.answer, error=_error(said["code"], said["text"]))
        self._free()

    def _free(self) -> None:
        self._forget_job()
        self._on_free(self)

    def _forget_job(self) -> None:
        if self._killing is not None:
            self._killing.cancel()
            self._killing = None
        if self.job is not None and self.job.share is not None:
            self.job.share.give_back()
        self.job = None

    def _on_end(self, error: DecoderEnded) -> None:
        if not self.ready.done():
            self.ready.set_exception(error)
            self.ready.exception()  # marks the exception as retrieved, because no caller may look at it
        if self.job is not None:
            settle(self.job.answer, error=error)
        self._forget_job()
        self.ended.set()


def _spawn() -> "subprocess.Popen[bytes]":
    """Starts a new interpreter: a fork would copy locks, but not the threads that hold them."""
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD.format(path=sys.path, parent=os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        env=os.environ | one_thread,
        start_new_session=True,  # a terminal's signals are for the gateway, which still needs its decoders then
    )
    for pipe in (child.stdin, child.stdout):
        assert pipe is not None
        with contextlib.suppress(AttributeError, OSError):  # this user may have no such pipe; a smaller one is slower
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
    return child


def _error(code: str | None, text: str) -> Exception:
    if code is None:
        return RuntimeError(f"a decoder failed: {text}")
    error = ImageError(text)
    error.code = code
    return error
