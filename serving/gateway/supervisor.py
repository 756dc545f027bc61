"""`labelwise serve --workers N`: starts processes that accept from one socket, and replaces those that die.

The workers share the listening socket: an idle worker takes the next connection, and a worker that dies loses only the
connections that it had accepted. They count metrics in one folder of this process. A Triton on this machine is started
once, for all of them.
"""

import asyncio
import contextlib
import logging
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import TYPE_CHECKING

from prometheus_client.multiprocess import mark_process_dead

from labelwise.errors import LabelwiseError
from serving.engines import create_local_triton
from serving.gateway.observe.logs import configure_logging
from serving.gateway.observe.metrics import FOLDER_VARIABLE
from serving.gateway.signals import cancelled_by
from serving.processes import Backoff, importing
from serving.settings import Settings
from serving.temporary import TemporaryFolder

if TYPE_CHECKING:
    from serving.local_triton.server import BorrowedTriton, LocalTriton

logger = logging.getLogger("labelwise.workers")

_CLOSE_WITHIN = 20.0  # seconds for engines and traces, after the time that accepted requests have
_READY, _FAILED, _RESTART_TRITON = "ready", "failed", "restart"


async def supervise(settings: Settings, listener: socket.socket, on_ready: Callable[[], None]) -> None:
    """Serves on `listener` until SIGINT or SIGTERM. Raises LabelwiseError if it cannot start."""
    with cancelled_by(signal.SIGINT, signal.SIGTERM), _metrics_folder() as folder:
        triton = create_local_triton(settings) if settings.engine == "triton" and not settings.triton_url else None
        try:
            if triton is not None:
                await triton.start()
            await _keep_workers(settings, listener, on_ready, folder, triton)
        finally:
            if triton is not None:
                await triton.stop()


def settings_of_each(settings: Settings) -> Settings:
    """Returns the settings of one worker: it gets its share of the cores' threads, unless `threads` was set."""
    if "threads" in settings.model_fields_set:
        return settings
    return settings.model_copy(update={"threads": max(1, settings.threads // settings.workers)})


async def _keep_workers(
    settings: Settings,
    listener: socket.socket,
    on_ready: Callable[[], None],
    folder: str,
    triton: "LocalTriton | None",
) -> None:
    workers = [_KeptWorker(settings_of_each(settings), listener, folder, triton) for _ in range(settings.workers)]
    tasks = [asyncio.create_task(worker.keep()) for worker in workers]
    try:
        for worker in workers:
            await worker.started.wait()
            if worker.failure:
                raise LabelwiseError(worker.failure)
        on_ready()
        await asyncio.Event().wait()  # until a signal
    finally:
        # The kernel accepts connections as long as any process holds this socket; a worker that ends closes it first.
        listener.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(worker.end(settings.shutdown_timeout + _CLOSE_WITHIN) for worker in workers))


class _KeptWorker:
    """A worker that is kept alive: `keep` starts a process, and another one when it has died."""

    def __init__(self, settings: Settings, listener: socket.socket, folder: str, triton: "LocalTriton | None") -> None:
        self._settings, self._listener, self._folder, self._triton = settings, listener, folder, triton
        self._process: SpawnProcess | None = None
        self._link: Connection | None = None
        self._why = ""
        self.started, self.failure = asyncio.Event(), ""

    async def keep(self) -> None:
        backoff = Backoff()
        while True:
            began = time.monotonic()
            process = self._start()
            await _readable(process.sentinel)
            self._buried(process)
            if not self.started.is_set():
                self.failure = self._why or f"A worker ended at its start ({process.exitcode}); the log says why."
                self.started.set()
                return
            delay = backoff.after(time.monotonic() - began)
            why = f": {self._why}" if self._why else ""
            logger.error("worker %d ended (%s)%s; another starts in %g s", process.pid, process.exitcode, why, delay)
            await asyncio.sleep(delay)

    async def end(self, within: float) -> None:
        """Lets the process finish the requests that it accepted, and kills it after `within` seconds."""
        process = self._process
        if process is None:
            return
        process.terminate()
        try:
            await asyncio.wait_for(_readable(process.sentinel), within)
        except asyncio.TimeoutError:
            logger.error("worker %d did not end within %g s and is killed", process.pid, within)
            process.kill()
            await _readable(process.sentinel)
        self._buried(process)

    def _start(self) -> SpawnProcess:
        spawn = multiprocessing.get_context("spawn")  # a fork would copy locks, but not the threads that hold them
        self._link, theirs = spawn.Pipe()
        url = None if self._triton is None else self._triton.grpc_url
        process = spawn.Process(target=_work, args=(self._settings, self._listener, theirs, url), daemon=True)
        process.start()
        theirs.close()
        self._process, self._why = process, ""
        asyncio.get_running_loop().add_reader(self._link.fileno(), self._listen)
        return process

    def _listen(self) -> None:
        assert self._link is not None
        try:
            while self._link.poll():
                self._hear(*self._link.recv())
        except (EOFError, OSError):
            asyncio.get_running_loop().remove_reader(self._link.fileno())

    def _hear(self, word: str, why: str) -> None:
        if word == _FAILED:
            self._why = why
        elif word == _RESTART_TRITON and self._triton is not None:
            self._triton.restart()
        elif word == _READY:
            self.started.set()

    def _buried(self, process: SpawnProcess) -> None:
        process.join()
        self._listen()  # to what it said last
        assert self._link is not None
        asyncio.get_running_loop().remove_reader(self._link.fileno())
        self._link.close()
        self._process = None
        mark_process_dead(process.pid, self._folder)  # type: ignore[no-untyped-call]


def _work(settings: Settings, listener: socket.socket, parent: Connection, triton_url: str | None) -> None:
    """Runs in the worker's process, from its start to its end."""
    with importing():
        from serving.gateway.worker import serve_alone  # the process that supervises needs no gateway

    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a closed terminal signals every process; the parent ends this one
    configure_logging(settings)
    triton = None if triton_url is None else _borrowed(triton_url, parent)
    try:
        with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
            serve_alone(settings, listener, lambda: parent.send((_READY, "")), parent, triton)
    except LabelwiseError as error:
        parent.send((_FAILED, str(error)))
        sys.exit(1)


def _borrowed(triton_url: str, parent: Connection) -> "BorrowedTriton":
    from serving.local_triton.server import BorrowedTriton

    return BorrowedTriton(triton_url, lambda: parent.send((_RESTART_TRITON, "")))


@contextlib.contextmanager
def _metrics_folder() -> Iterator[str]:
    """The folder in which the workers count together. Each reads its name when it imports prometheus_client."""
    with TemporaryFolder("metrics") as folder:
        os.environ[FOLDER_VARIABLE] = folder
        try:
            yield folder
        finally:
            del os.environ[FOLDER_VARIABLE]


async def _readable(descriptor: int) -> None:
    """Waits until `descriptor` can be read or its other end is closed."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)
