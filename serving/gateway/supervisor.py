"""`labelwise serve --workers N`: processes that accept from one socket, and this one, which keeps them alive.

The workers share the listening socket, so whoever is idle takes the next connection, and a worker that dies takes none
with it that it had not accepted. Their metrics are in one folder of this process, and a Triton on this machine is
started once, for all of them.
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
from collections.abc import Coroutine, Iterator, Sequence
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

from prometheus_client.multiprocess import mark_process_dead

from labelwise.errors import LabelwiseError
from serving.engines import create_local_triton
from serving.gateway.observe.logs import configure_logging
from serving.gateway.observe.metrics import FOLDER_VARIABLE
from serving.gateway.run import announce, run_alone
from serving.local_triton.borrowed import BorrowedTriton
from serving.local_triton.server import LocalTriton
from serving.settings import Settings
from serving.temporary import TemporaryFolder

logger = logging.getLogger("labelwise.workers")

_RESTART_DELAYS = (1.0, 30.0)  # seconds: the first, doubled up to the last
_STABLE_AFTER = 60.0  # seconds of life after which a death counts as the first again
_CLOSE_WITHIN = 20.0  # seconds for engines and traces, beyond what accepted requests are given
_READY, _FAILED, _RESTART_TRITON = "ready", "failed", "restart"


async def supervise(settings: Settings, listener: socket.socket) -> None:
    """Serve on `listener` until SIGINT or SIGTERM. LabelwiseError if it cannot start."""
    stop = asyncio.Event()
    with _signals_set(stop), _metrics_folder() as folder:
        triton = create_local_triton(settings) if settings.engine == "triton" and not settings.triton_url else None
        try:
            if triton is not None:
                await _unless_stopped(triton.start(), stop)
            await _keep_workers(settings, listener, folder, triton, stop)
        finally:
            if triton is not None:
                await triton.stop()


def settings_of_each(settings: Settings) -> Settings:
    """Those of one worker: the cores' threads are shared out, unless somebody said how many each is to have."""
    if "threads" in settings.model_fields_set:
        return settings
    return settings.model_copy(update={"threads": max(1, settings.threads // settings.workers)})


async def _keep_workers(
    settings: Settings, listener: socket.socket, folder: str, triton: LocalTriton | None, stop: asyncio.Event
) -> None:
    workers = [_Worker(settings_of_each(settings), listener, folder, triton) for _ in range(settings.workers)]
    tasks = [asyncio.create_task(worker.keep()) for worker in workers]
    try:
        await _unless_stopped(_all_started(workers), stop)
        if not stop.is_set():
            announce(listener)
            await stop.wait()
    finally:
        # The kernel accepts connections as long as one process holds this socket; the workers close theirs first thing.
        listener.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(worker.end(settings.shutdown_timeout + _CLOSE_WITHIN) for worker in workers))


async def _all_started(workers: "Sequence[_Worker]") -> None:
    for worker in workers:
        await worker.started.wait()
        if worker.failure:
            raise LabelwiseError(worker.failure)


class _Worker:
    """One place for a process: `keep` starts it, and another whenever it has died."""

    def __init__(self, settings: Settings, listener: socket.socket, folder: str, triton: LocalTriton | None) -> None:
        self._settings, self._listener, self._folder, self._triton = settings, listener, folder, triton
        self._process: SpawnProcess | None = None
        self._link: Connection | None = None
        self._why = ""
        self.started, self.failure = asyncio.Event(), ""

    async def keep(self) -> None:
        first, longest = _RESTART_DELAYS
        delay = first
        while True:
            began = time.monotonic()
            process = self._start()
            await _readable(process.sentinel)
            self._buried(process)
            if not self.started.is_set():
                self.failure = self._why or f"A worker ended at its start ({process.exitcode}); the log says why."
                self.started.set()
                return
            if time.monotonic() - began > _STABLE_AFTER:
                delay = first
            why = f": {self._why}" if self._why else ""
            logger.error("worker %d ended (%s)%s; another starts in %g s", process.pid, process.exitcode, why, delay)
            await asyncio.sleep(delay)
            delay = min(2 * delay, longest)

    async def end(self, within: float) -> None:
        """Ask it to finish what it accepted; after so many seconds it is killed."""
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
        spawn = multiprocessing.get_context("spawn")  # a fork would take half of this process's threads along
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
        self._listen()  # to its last words
        assert self._link is not None
        asyncio.get_running_loop().remove_reader(self._link.fileno())
        self._link.close()
        self._process = None
        mark_process_dead(process.pid, self._folder)  # type: ignore[no-untyped-call]


def _work(settings: Settings, listener: socket.socket, parent: Connection, triton_url: str | None) -> None:
    """A worker's whole life, in its own process."""
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a closed terminal tells all of the group; the parent ends us
    configure_logging(settings)
    triton = None if triton_url is None else BorrowedTriton(triton_url, lambda: parent.send((_RESTART_TRITON, "")))
    try:
        with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
            run_alone(settings, listener, lambda: parent.send((_READY, "")), parent, triton)
    except LabelwiseError as error:
        parent.send((_FAILED, str(error)))
        sys.exit(1)


@contextlib.contextmanager
def _signals_set(stop: asyncio.Event) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


@contextlib.contextmanager
def _metrics_folder() -> Iterator[str]:
    """Where the workers count together; prometheus_client looks for it when it is imported, in each of them."""
    with TemporaryFolder("metrics") as folder:
        os.environ[FOLDER_VARIABLE] = folder
        try:
            yield folder
        finally:
            del os.environ[FOLDER_VARIABLE]


async def _unless_stopped(work: Coroutine[Any, Any, None], stop: asyncio.Event) -> None:
    """Until `work` is done; cancelled where `stop` comes first."""
    task, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
    finally:
        for each in (task, stopping):
            each.cancel()
        await asyncio.gather(task, stopping, return_exceptions=True)


async def _readable(descriptor: int) -> None:
    """Until there is something to read, or an end."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)
