"""NVIDIA Triton as a child process: started, watched, started again after a crash, and never left behind."""

import asyncio
import contextlib
import logging
import os
import secrets
import socket
import time
from collections.abc import Callable
from pathlib import Path

from labelwise.errors import LabelwiseError
from serving.local_triton.control import TritonControl
from serving.local_triton.install import TritonInstall, find_triton, require_plain, trace_arguments
from serving.local_triton.loader import TritonLoader
from serving.local_triton.process import SHARED_MEMORY, TritonProcess
from serving.local_triton.view import CONFIG_NAME, TritonView
from serving.precision import Chooser
from serving.processes import Backoff
from serving.temporary import TemporaryFolder
from serving.watching import repeat

logger = logging.getLogger("labelwise.triton")

_HOST = "127.0.0.1"
_STOP_TIMEOUT = 10.0  # seconds until a Triton that was asked to end is killed
_ASK_EVERY = 1.0  # seconds
_SILENT_AT_MOST = 5  # questions in a row, of a second each: what has too much to do may answer one of them late


class LocalTriton:
    """Serves the taggers of `repository` with a Triton on this machine.

    gRPC and metrics listen on 127.0.0.1; HTTP is off. A Triton that dies is started again at once, and after
    1, 2, 4 … 30 seconds if it keeps dying. One that gives no sign of life for five seconds is killed, and so started
    again. Every `reload_interval` seconds (0: never) it is told to load what was published. What was replaced or taken
    out, it keeps for `retire_after` seconds more, for requests that began with it. `stop` stops it. If this process (or
    the event loop's thread) ends without that, the kernel kills it.

    The `chooser` chooses the graph of each version; None leaves that to Triton.
    """

    def __init__(
        self,
        repository: Path,
        *,
        grpc_port: int = 8001,
        metrics_port: int = 8002,
        start_timeout: float = 60.0,
        reload_interval: float = 0,
        retire_after: float = 60,
        trace_endpoint: str | None = None,
        chooser: Chooser | None = None,
    ) -> None:
        self._repository = repository.resolve()
        self.grpc_url = f"{_HOST}:{grpc_port}"
        self._grpc_port, self._metrics_port = grpc_port, metrics_port
        self._start_timeout = start_timeout
        self._reload_interval, self._retire_after = reload_interval, retire_after
        self._trace_endpoint, self._chooser = trace_endpoint, chooser
        self._workspace: TemporaryFolder | None = None  # for the view and the backends
        self._process: TritonProcess | None = None
        self._regions = f"labelwise_{os.getpid()}_{secrets.token_hex(4)}_"  # the prefix of its shared memory's names
        self._control = TritonControl(self.grpc_url, start_timeout)
        self._command: list[str] = []
        self._environment: dict[str, str] = {}
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def pid(self) -> int | None:
        """Triton's process id while it runs."""
        return self._process.pid if self._process and self._process.status is None else None

    async def start(self) -> None:
        """Start Triton and wait until it serves every model. Raises LabelwiseError with the decisive line of its log.

        Versions that it cannot load are left out, as long as one is left.
        """
        install = find_triton()
        install.require_numpy()
        _require_free(self._grpc_port, "gRPC")
        _require_free(self._metrics_port, "metrics")
        self._workspace = TemporaryFolder("triton")
        self._workspace.takes_along(SHARED_MEMORY / f"{self._regions}*")
        try:
            require_plain(Path(self._workspace.name))
            loader = await self._lay_out(install, Path(self._workspace.name))
            await self._launch(loader)
            if not loader.names:
                reason = next(reversed(loader.faults.values()), f"{self._repository} holds no tagger")
                raise LabelwiseError(f"Triton did not start: {reason}")
        except BaseException:
            await self.stop()
            raise
        self._tasks.append(asyncio.create_task(self._supervise(loader)))
        self._tasks.append(asyncio.create_task(self._end_if_silent()))
        if self._reload_interval:
            self._tasks.append(asyncio.create_task(repeat(loader.reload, self._reload_interval)))

    async def _lay_out(self, install: TritonInstall, workspace: Path) -> TritonLoader:
        """Prepare the environment, the command, and what to serve."""
        (workspace / "backends").mkdir()
        self._environment = install.environment()
        try:
            view = TritonView(self._repository, workspace, None if install.has_onnxruntime else "python")
            loader = TritonLoader(
                self._repository, view, self._control, self.restart, self._retire_after, self._chooser
            )
            await loader.prepare()
            backends = install.lay_out_backends(workspace / "backends")
        except OSError as error:
            raise LabelwiseError(
                f"Triton's copy of {self._repository} cannot be made in {workspace.parent}: {error.strerror or error}. "
                "Set TMPDIR to another folder."
            ) from error
        self._command = [str(install.binary), *self._arguments(view.repository, backends)]
        return loader

    async def _launch(self, loader: TritonLoader) -> None:
        """Start a Triton that serves what `loader` shows. Versions that it cannot load are left out of the next one."""
        while True:
            command = [*self._command, *(f"--load-model={name}" for name in loader.names)]
            self._process = process = await TritonProcess.start(command, self._environment, self._regions)
            try:
                return await self._until_serving(process)
            except LabelwiseError:
                process.kill()
                if not await loader.leave_out(process.unloadable):
                    raise

    async def _until_serving(self, process: TritonProcess) -> None:
        """Wait until Triton opens its ports, which it does once every model is loaded. Raises LabelwiseError.

        It exits if the ports have been taken in the meantime.
        """
        deadline = time.monotonic() + self._start_timeout
        while not (await _listens(self._metrics_port) and await self._control.is_live()):
            if process.unloadable and process.status is None:  # it may hang when it ends by itself
                process.kill()
                await process.ended(_STOP_TIMEOUT)
            if process.status is not None:
                await process.clear_away()  # reads the log to its end
                raise LabelwiseError(f"Triton did not start: {process.complaint}")
            if time.monotonic() > deadline:
                raise LabelwiseError(f"Triton was not ready within {self._start_timeout:g} s: {process.complaint}")
            await asyncio.sleep(0.05)
        process.serves = True
        if self._workspace is not None and (scratch := process.find_scratch()):
            self._workspace.takes_along(scratch)

    def restart(self) -> None:
        """End a Triton that can no longer do its work; another is started, as after a crash.

        A Triton that does not serve yet stays: the complaint is about the one before.
        """
        if self._process is not None and self._process.serves:
            self._process.serves = False
            self._process.kill()

    async def stop(self) -> None:
        """Stop Triton and everything it started: ask first, then kill. Safe to call twice."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        await self._control.close()
        process, self._process = self._process, None
        if process is not None:
            await process.stop(_STOP_TIMEOUT, self._has_work)
        if self._workspace is not None:
            self._workspace.cleanup()
            self._workspace = None

    def _has_work(self) -> bool:
        """Returns whether anybody may still get an answer, or a trace.

        Triton's own count of requests leaves out those that are being computed.
        """
        return self._trace_endpoint is not None or _has_clients(self._grpc_port)

    def _arguments(self, repository: Path, backends: Path) -> list[str]:
        return [
            *self._control.arguments,
            f"--model-repository={repository}",
            f"--model-config-name={CONFIG_NAME}",
            f"--backend-directory={backends}",
            "--model-control-mode=explicit",
            "--disable-auto-complete-config",
            "--exit-on-error=true",
            "--strict-readiness=false",  # one version that it could not load would make it unready for good
            f"--exit-timeout-secs={_STOP_TIMEOUT / 2:.0f}",
            "--allow-http=false",
            f"--grpc-address={_HOST}",
            f"--grpc-port={self._grpc_port}",
            f"--metrics-address={_HOST}",
            f"--metrics-port={self._metrics_port}",
            "--backend-config=python,shm-default-byte-size=4194304",
            f"--backend-config=python,shm-region-prefix-name={self._regions}",
            *(() if self._trace_endpoint is None else trace_arguments(self._trace_endpoint)),
        ]

    async def _supervise(self, loader: TritonLoader) -> None:
        """Start another Triton whenever one has ended."""
        backoff = Backoff(at_once=True)
        while True:
            process, started = self._process, time.monotonic()
            assert process is not None
            await process.ended(float("inf"))
            died = time.monotonic()
            await process.clear_away(at_once=True)
            delay = backoff.after(died - started)
            logger.error("Triton ended (exit status %s) and is started again in %g s", process.status, delay)
            await asyncio.sleep(delay)
            try:
                await self._launch(loader)
            except OSError as error:  # such as no memory for one more process: the next round tries again
                logger.error("Triton cannot be started: %s", error.strerror)
            except LabelwiseError as error:
                logger.error("%s", error)
            else:
                logger.info("Triton serves again, %.1f s after the one before ended", time.monotonic() - died)

    async def _end_if_silent(self) -> None:
        """Kill a Triton that hangs; then `_supervise` starts another."""
        silent = 0
        while True:
            silent = silent + 1 if self._process and self._process.serves and await self._control.is_silent() else 0
            if silent >= _SILENT_AT_MOST:
                logger.error("Triton has not answered for %g s: it hangs, and is ended", silent)
                self.restart()
            if not silent:
                await asyncio.sleep(_ASK_EVERY)


class BorrowedTriton:
    """A Triton on this machine that another process starts and stops.

    Tells an engine where the Triton is, and whom to tell when it no longer does its work.
    """

    def __init__(self, grpc_url: str, restart: Callable[[], None]) -> None:
        self.grpc_url, self.restart = grpc_url, restart

    async def start(self) -> None:
        """Does nothing: the Triton runs already."""

    async def stop(self) -> None:
        """Does nothing: other processes still use the Triton."""


def _require_free(port: int, use: str) -> None:
    """Raises LabelwiseError if nothing can listen there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # closed connections that linger do not count
        try:
            probe.bind((_HOST, port))
        except OSError as error:
            raise LabelwiseError(f"Triton cannot use {_HOST}:{port} for {use}: {error.strerror}.") from error


def _has_clients(port: int) -> bool:
    """Returns whether a connection to the port is open."""
    local, established = f":{port:04X}", "01"
    tables = [Path("/proc/net/tcp"), Path("/proc/net/tcp6")]  # gRPC's sockets are of IPv6, if there is that
    lines = [line.split() for table in tables if table.exists() for line in table.read_text().splitlines()[1:]]
    return any(line[1].endswith(local) and line[3] == established for line in lines)


async def _listens(port: int) -> bool:
    """Returns whether connections are accepted there."""
    try:
        _, writer = await asyncio.open_connection(_HOST, port)
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True
