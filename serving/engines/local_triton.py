"""A real NVIDIA Triton as a child process: found, started, watched, started again after a crash, never left behind."""

import asyncio
import contextlib
import importlib.util
import logging
import os
import re
import secrets
import shutil
import signal
import socket
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from labelwise.errors import LabelwiseError

logger = logging.getLogger("labelwise.triton")

_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
_STUB = "triton_python_backend_stub"
_LONGEST_LOG_LINE = 1 << 20  # bytes
_RESTART_DELAYS = (1.0, 30.0)  # seconds: the first, doubled up to the last
_STABLE_AFTER = 60.0  # seconds of life after which a crash counts as the first again
_STUBS_LEAVE_WITHIN = 2.0  # seconds; they notice Triton's end by themselves and remove their shared memory

# Becomes Triton, after asking the kernel to kill it with its parent; PR_SET_PDEATHSIG (1) survives the exec. A
# `preexec_fn` would run Python in a fork of a threaded process instead. "Parent" is the thread that started it: the
# event loop's, without which nobody would stop Triton.
_LAUNCHER = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() == int(sys.argv[1]):  # otherwise the parent died before the line above
    os.execv(sys.argv[2], sys.argv[2:])
"""

_LOG_LINE = re.compile(r"([IWEF])\d{4} [\d:.]+ +\d+ [\w.]+:\d+\] +(.*)")
_LEVELS = {"I": logging.INFO, "W": logging.WARNING, "E": logging.ERROR, "F": logging.CRITICAL}
_NO_GPU = re.compile(r"pinned|NVML|DCGM|CudaDriverHelper|CUDA (memory pool disabled|driver version is insufficient)")
_PLAIN_ERROR = re.compile(r"error: |.*: unrecognized option|.*error while loading shared libraries")


@dataclass(frozen=True)
class TritonInstall:
    """Where a Triton lies.

    `libraries` are folders for the loader to search besides its own; `stub`, where given, is the Python backend's
    helper for this Python, to be put beside that backend.
    """

    binary: Path
    backends: Path
    libraries: tuple[Path, ...] = ()
    stub: Path | None = None

    @property
    def has_onnxruntime(self) -> bool:
        return (self.backends / "onnxruntime").is_dir()

    @property
    def runs_this_python(self) -> bool:
        """Whether its Python backend can import what is installed for this Python."""
        stub = self.backends / "python" / _STUB
        return self.stub is not None or (stub.is_file() and f"libpython{_PYTHON}.so".encode() in stub.read_bytes())


def find_triton() -> TritonInstall:
    """The `tritonserver` on PATH, or else the one inside the nvidia-pytriton wheel. LabelwiseError without either."""
    return _on_path() or _in_wheel()


def _on_path() -> TritonInstall | None:
    found = shutil.which("tritonserver")
    if found is None:
        return None
    beside = Path(found).resolve().parent.parent / "backends"
    return TritonInstall(Path(found), beside if beside.is_dir() else Path("/opt/tritonserver/backends"))


def _in_wheel() -> TritonInstall:
    spec = importlib.util.find_spec("pytriton")  # found, not imported: the package starts things when imported
    if spec is None or not spec.submodule_search_locations:
        raise LabelwiseError("There is no Triton here: pip install 'labelwise[triton]', or pass --triton-url.")
    package = Path(spec.submodule_search_locations[0])
    server = package / "tritonserver"
    stub = server / "python_backend_stubs" / _PYTHON / _STUB
    if not stub.is_file():
        raise LabelwiseError(f"The installed nvidia-pytriton does not support Python {_PYTHON}; pass --triton-url instead.")
    libraries = (package.parent / "nvidia_pytriton.libs", Path(sysconfig.get_config_var("LIBDIR")))
    return TritonInstall(server / "bin" / "tritonserver", server / "backends", libraries, stub)


class LocalTriton:
    """Triton serving `repository` on this machine for as long as this process wants it.

    gRPC and metrics listen on `host`; HTTP is off. A Triton that dies is started again, after 1, 2, 4 … 30 seconds.
    It is stopped by `stop`, and killed by the kernel where this process (or the event loop's thread) ends without.
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
    ) -> None:
        self._repository = repository.resolve()
        self._host = host
        self._grpc_port = grpc_port
        self._metrics_port = metrics_port
        self._start_timeout = start_timeout
        self._stop_timeout = stop_timeout
        self._install = install
        self._workspace: tempfile.TemporaryDirectory[str] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._log: asyncio.Task[None] | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._complaint = ""  # the first error in Triton's log since it was started, else the last line

    @property
    def grpc_url(self) -> str:
        """`host:port` for a client on this machine."""
        return f"{'127.0.0.1' if self._host == '0.0.0.0' else self._host}:{self._grpc_port}"

    @property
    def pid(self) -> int | None:
        """Triton's process id while it runs."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def start(self) -> None:
        """Start Triton and wait until it serves every model. Raises LabelwiseError with the decisive line of its log."""
        install = self._install = self._install or find_triton()
        _require_free(self._host, self._grpc_port, "gRPC")
        _require_free(self._host, self._metrics_port, "metrics")
        self._workspace = tempfile.TemporaryDirectory(prefix="labelwise-triton-")
        backends = _lay_out_backends(install, Path(self._workspace.name))
        command = [str(install.binary), *self._arguments(install, backends)]
        try:
            await self._spawn(command, _environment(install))
            await self._until_serving()
        except BaseException:
            await self.stop()
            raise
        self._supervisor = asyncio.create_task(self._supervise(command, _environment(install)))

    async def stop(self) -> None:
        """Stop Triton and everything it started: ask first, kill after `stop_timeout` seconds. Safe to call twice."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
            self._supervisor = None
        process, self._process = self._process, None
        if process is not None:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.terminate()
                await _until(lambda: process.returncode is not None, self._stop_timeout)
            await self._clear_away(process)
        if self._workspace is not None:
            self._workspace.cleanup()
            self._workspace = None

    def _arguments(self, install: TritonInstall, backends: Path) -> list[str]:
        arguments = [
            f"--model-repository={self._repository}",
            f"--backend-directory={backends}",
            "--model-control-mode=none",
            "--disable-auto-complete-config",
            "--exit-on-error=true",
            f"--exit-timeout-secs={max(1, int(self._stop_timeout / 2))}",
            "--allow-http=false",
            f"--grpc-address={self._host}",
            f"--grpc-port={self._grpc_port}",
            f"--metrics-address={self._host}",
            f"--metrics-port={self._metrics_port}",
            "--backend-config=python,shm-default-byte-size=4194304",
            # Nobody needs these over the network, so the key to them is thrown away.
            f"--grpc-restricted-protocol=model-repository,shared-memory,trace,logging:key={secrets.token_hex()}",
        ]
        if not install.has_onnxruntime:
            # configs/python.pbtxt where a model has one, its config.pbtxt where it has none
            arguments.append("--model-config-name=python")
        return arguments

    async def _spawn(self, command: list[str], environment: dict[str, str]) -> None:
        self._complaint = "nothing in its log"
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), *command),
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches the gateway only, and one kill reaches the backends' processes too
            limit=_LONGEST_LOG_LINE,
        )
        assert self._process.stdout is not None
        self._log = asyncio.create_task(self._follow(self._process.stdout))

    async def _until_serving(self) -> None:
        """Triton opens its ports once every model is loaded, the metrics' last; a half repository makes it exit."""
        process, log = self._process, self._log
        assert process is not None and log is not None
        deadline = time.monotonic() + self._start_timeout
        while not await _listens(self._host, self._metrics_port):
            if process.returncode is not None:
                await asyncio.wait([log], timeout=1)
                raise LabelwiseError(f"Triton did not start: {self._complaint}")
            if time.monotonic() > deadline:
                raise LabelwiseError(f"Triton was not ready within {self._start_timeout:g} s: {self._complaint}")
            await asyncio.sleep(0.1)

    async def _supervise(self, command: list[str], environment: dict[str, str]) -> None:
        first, longest = _RESTART_DELAYS
        delay = first
        while True:
            started = time.monotonic()
            process = self._process
            assert process is not None
            # Polled, because before Python 3.13 `wait` also waits for whoever else holds the pipe, such as a stub.
            await _until(lambda: process.returncode is not None, float("inf"))
            await self._clear_away(process)
            if time.monotonic() - started > _STABLE_AFTER:
                delay = first
            logger.error("Triton ended (exit status %s) and is started again in %g s", process.returncode, delay)
            await asyncio.sleep(delay)
            delay = min(2 * delay, longest)
            try:
                await self._spawn(command, environment)
            except OSError as error:  # such as no memory for one more process: the next round tries again
                logger.error("Triton cannot be started: %s", error.strerror)

    async def _clear_away(self, process: asyncio.subprocess.Process) -> None:
        """Leave no process of Triton's group behind, nor its log unread."""
        if process.returncode is not None:
            await _until(lambda: not _group_exists(process.pid), _STUBS_LEAVE_WITHIN)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await _until(lambda: process.returncode is not None, _STUBS_LEAVE_WITHIN)
        if self._log is not None:
            await asyncio.wait([self._log], timeout=1)
            self._log.cancel()

    async def _follow(self, output: asyncio.StreamReader) -> None:
        complained = False
        while True:
            try:
                line = await output.readline()
            except ValueError:  # longer than the limit; readline has dropped it
                continue
            if not line:
                return
            level, message = _parse(line.decode(errors="replace").rstrip())
            logger.log(level, "%s", message)
            if not complained and message:
                complained = level >= logging.ERROR
                self._complaint = message.partition("\\n")[0][:500]  # Triton writes line ends as \n


def _parse(line: str) -> tuple[int, str]:
    """Level and message of one line of Triton's log; what only says that there is no GPU is not worth a warning."""
    if match := _LOG_LINE.match(line):
        level, message = _LEVELS[match[1]], match[2].strip('"')
    else:
        level, message = logging.ERROR if _PLAIN_ERROR.match(line) else logging.INFO, line
    if _NO_GPU.search(line) or not message or message[0] in "+|":  # the latter frame tables
        level = logging.DEBUG
    return level, message


def _lay_out_backends(install: TritonInstall, folder: Path) -> Path:
    """The folder for --backend-directory; the wheel keeps the Python backend's stub apart from the backend."""
    if install.stub is None:
        return install.backends
    for backend in install.backends.iterdir():
        (folder / backend.name).mkdir()
        for file in backend.iterdir():
            (folder / backend.name / file.name).symlink_to(file)
    (folder / "python" / _STUB).symlink_to(install.stub)
    return folder


def _environment(install: TritonInstall) -> dict[str, str]:
    environment = dict(os.environ)
    additions = {"LD_LIBRARY_PATH": [str(folder) for folder in install.libraries]}
    if install.runs_this_python:
        additions["PATH"] = [str(Path(sys.executable).parent)]  # where the stub's Python looks for its own library
        additions["PYTHONPATH"] = list(dict.fromkeys(sysconfig.get_path(kind) for kind in ("purelib", "platlib")))
    for name, folders in additions.items():
        if before := environment.get(name):
            folders = [*folders, before]
        if folders:
            environment[name] = os.pathsep.join(folders)
    return environment


def _require_free(host: str, port: int, use: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # closed connections that linger do not count
        try:
            probe.bind((host, port))
        except OSError as error:
            raise LabelwiseError(f"Triton cannot use {host}:{port} for {use}: {error.strerror}.") from error


async def _listens(host: str, port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


def _group_exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


async def _until(condition: Callable[[], bool], timeout: float) -> bool:
    """Wait until `condition` holds, at most `timeout` seconds; returns whether it does."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.05)
    return True
