"""NVIDIA Triton as a child process: started, watched, started again after a crash, and never left behind."""

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import time
from asyncio.subprocess import Process
from collections.abc import Iterable
from pathlib import Path

from labelwise.errors import LabelwiseError
from labelwise.repository import VersionKey, tagger_of
from serving.backoff import Backoff
from serving.local_triton.control import TritonControl
from serving.local_triton.install import TritonInstall, find_triton, require_plain, trace_arguments
from serving.local_triton.loader import TritonLoader
from serving.local_triton.log import first_line, parse_line, parse_unloadable
from serving.local_triton.process import PythonScratch, ended, listens, require_free, start
from serving.local_triton.view import CONFIG_NAME, TritonView
from serving.temporary import TemporaryFolder
from serving.watching import repeat

logger = logging.getLogger("labelwise.triton")

_ASK_EVERY = 1.0  # seconds
_SILENT_AT_MOST = 5  # questions in a row, of a second each: what has too much to do may answer one of them late
_STUBS_LEAVE_WITHIN = 2.0  # seconds; the Python backend's processes notice Triton's end by themselves
_SHARED_MEMORY = Path("/dev/shm")


class LocalTriton:
    """Serves the taggers of `repository` with a Triton on this machine.

    gRPC and metrics listen on `host`; HTTP is off. A Triton that dies is started again at once, and after 1, 2, 4 … 30
    seconds if it goes on dying. One that gives no sign of life for five seconds is killed, and so started again.
    Every `reload_interval` seconds (0: never) it is told to load what was published. What was replaced or taken out, it
    keeps for `retire_after` seconds more, for requests that began with it.
    `stop` stops it. If this process (or the event loop's thread) ends without that, the kernel kills it.
    """

    def __init__(
        self,
        repository: Path,
        *,
        host: str = "127.0.0.1",
        grpc_port: int = 8001,
        metrics_port: int = 8002,
        start_timeout: float = 60.0,
        stop_timeout: float = 10.0,
        install: TritonInstall | None = None,
        reload_interval: float = 0,
        retire_after: float = 60,
        trace_endpoint: str | None = None,
    ) -> None:
        self._repository = repository.resolve()
        self._host = host
        self._grpc_port = grpc_port
        self._metrics_port = metrics_port
        self._start_timeout = start_timeout
        self._stop_timeout = stop_timeout
        self._install = install
        self._reload_interval, self._retire_after = reload_interval, retire_after
        self._trace_endpoint = trace_endpoint
        self._workspace: TemporaryFolder | None = None
        self._process: Process | None = None
        self._serves = False  # since `_process` was started
        self._scratch = PythonScratch()
        self._regions = f"labelwise_{os.getpid()}_{secrets.token_hex(4)}_"  # the prefix of its shared memory's names
        self._control = TritonControl(self.grpc_url, start_timeout)
        self._command: list[str] = []
        self._environment: dict[str, str] = {}
        self._log: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._unloadable: dict[VersionKey, str] = {}  # what Triton could not load since it was started, and why
        self._complaint = ""  # the first error in Triton's log since it was started, otherwise the last line

    @property
    def grpc_url(self) -> str:
        """`host:port` for a client on this machine."""
        return f"{'127.0.0.1' if self._host == '0.0.0.0' else self._host}:{self._grpc_port}"

    @property
    def pid(self) -> int | None:
        """Triton's process id while it runs."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def start(self) -> None:
        """Start Triton and wait until it serves every model. Raises LabelwiseError with the decisive line of its log.

        Versions that it cannot load are left out, as long as one is left.
        """
        install = self._install or find_triton()
        install.require_numpy()
        require_free(self._host, self._grpc_port, "gRPC")
        require_free(self._host, self._metrics_port, "metrics")
        self._workspace = TemporaryFolder("triton")
        self._workspace.takes_along(_SHARED_MEMORY / f"{self._regions}*")
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
            loader = TritonLoader(self._repository, view, self._control, self.restart, self._retire_after)
            await loader.prepare()
            backends = install.lay_out_backends(workspace / "backends")
        except OSError as error:
            raise LabelwiseError(
                f"Triton's copy of {self._repository} cannot be made in {workspace.parent}: {error.strerror or error}. "
                "TMPDIR can name another place."
            ) from error
        self._command = [str(install.binary), *self._arguments(view.repository, backends)]
        return loader

    async def _launch(self, loader: TritonLoader) -> None:
        """Start a Triton that serves what `loader` shows. Versions that it cannot load are left out of the next one."""
        while True:
            process = await self._spawn(loader.names)
            try:
                return await self._until_serving(process)
            except LabelwiseError:
                if not await loader.leave_out(self._unloadable):
                    raise

    def restart(self) -> None:
        """End a Triton that can no longer do its work; another is started, as after a crash.

        A Triton that does not serve yet stays: the complaint is about the one before.
        """
        if self._serves:
            self._serves = False
            self._kill()

    def _kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def stop(self) -> None:
        """Stop Triton and everything it started: ask first, kill after `stop_timeout` seconds. Safe to call twice."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        await self._control.close()
        process, self._process = self._process, None
        if process is not None:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.terminate()
                await ended(process, self._stop_timeout)
            await self._clear_away(process)
        if self._workspace is not None:
            self._workspace.cleanup()
            self._workspace = None

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
            f"--exit-timeout-secs={max(1, int(self._stop_timeout / 2))}",
            "--allow-http=false",
            f"--grpc-address={self._host}",
            f"--grpc-port={self._grpc_port}",
            f"--metrics-address={self._host}",
            f"--metrics-port={self._metrics_port}",
            "--backend-config=python,shm-default-byte-size=4194304",
            f"--backend-config=python,shm-region-prefix-name={self._regions}",
            *(() if self._trace_endpoint is None else trace_arguments(self._trace_endpoint)),
        ]

    async def _spawn(self, names: Iterable[str]) -> Process:
        self._complaint, self._unloadable = "nothing in its log", {}
        command = [*self._command, *(f"--load-model={name}" for name in names)]
        self._scratch = PythonScratch()
        process = await start(command, self._environment)
        assert process.stdout is not None
        self._process, self._serves = process, False
        self._log = asyncio.create_task(self._follow(process.stdout))
        return process

    async def _until_serving(self, process: Process) -> None:
        """Triton opens its ports once every model is loaded; it exits if the ports have been taken meanwhile."""
        deadline = time.monotonic() + self._start_timeout
        while not (await listens(self._host, self._metrics_port) and await self._control.is_live()):
            if self._unloadable and process.returncode is None:  # it may hang when it ends by itself
                self._kill()
                await ended(process, self._stop_timeout)
            if process.returncode is not None:
                await self._clear_away(process)  # reads the log to its end
                raise LabelwiseError(f"Triton did not start: {self._complaint}")
            if time.monotonic() > deadline:
                raise LabelwiseError(f"Triton was not ready within {self._start_timeout:g} s: {self._complaint}")
            await asyncio.sleep(0.05)
        self._serves = True
        if self._workspace is not None and (scratch := self._scratch.find()):
            self._workspace.takes_along(scratch)

    async def _supervise(self, loader: TritonLoader) -> None:
        backoff = Backoff(at_once=True)
        while True:
            process, started = self._process, time.monotonic()
            assert process is not None
            await ended(process, float("inf"))
            died = time.monotonic()
            await self._clear_away(process, at_once=True)
            delay = backoff.after(died - started)
            logger.error("Triton ended (exit status %s) and is started again in %g s", process.returncode, delay)
            await asyncio.sleep(delay)
            try:
                await self._launch(loader)
            except OSError as error:  # such as no memory for one more process: the next round tries again
                logger.error("Triton cannot be started: %s", error.strerror)
            except LabelwiseError as error:
                logger.error("%s", error)
                self._kill()
            else:
                logger.info("Triton serves again, %.1f s after the one before ended", time.monotonic() - died)

    async def _end_if_silent(self) -> None:
        """Kill a Triton that hangs; then `_supervise` starts another."""
        silent = 0
        while True:
            silent = silent + 1 if self._serves and await self._control.is_silent() else 0
            if silent >= _SILENT_AT_MOST:
                logger.error("Triton has not answered for %g s: it hangs, and is ended", silent)
                self.restart()
            if not silent:
                await asyncio.sleep(_ASK_EVERY)

    async def _clear_away(self, process: Process, at_once: bool = False) -> None:
        """Leave no process of Triton's group behind, nor shared memory, nor its log unread.

        What Triton started leaves by itself when Triton stops; `at_once` does not wait for that.
        """
        assert self._log is not None
        if process.returncode is not None and not at_once:
            # Its log ends when the last of the group has left.
            await asyncio.wait([self._log], timeout=_STUBS_LEAVE_WITHIN)
        if not self._log.done():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await ended(process, _STUBS_LEAVE_WITHIN)
            await asyncio.wait([self._log], timeout=1)
            self._log.cancel()
        self._remove_regions()
        self._scratch.remove()

    def _remove_regions(self) -> None:
        for region in _SHARED_MEMORY.glob(self._regions + "*"):  # of processes that were killed
            region.unlink(missing_ok=True)

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
            if found := parse_unloadable(message):
                model, number, reason = found
                self._unloadable[tagger_of(model), number] = f"Triton cannot load {model}: {reason}"
            if not complained and message:
                complained = level >= logging.ERROR
                self._complaint = first_line(message)
