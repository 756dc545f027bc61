"""Starts a server on its core, asks it, and stops it with all that it started."""

import asyncio
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from pathlib import Path

from benchmarks.peers.contestants import Contestant
from benchmarks.peers.environments import HERE, NotMeasured, python_of
from benchmarks.peers.subject import ROOT, Subject
from benchmarks.process_tree import processes_of

SERVERS = HERE / "servers"
SERVER_CORE, CLIENT_CORE = 0, 1
_START_TIMEOUT, _STOP_TIMEOUT, _ANSWER_TIMEOUT = 120.0, 6.0, 30.0  # seconds


@contextlib.contextmanager
def running(
    contestant: Contestant,
    subject: Subject,
    cores: Collection[int] = (SERVER_CORE,),
    clients: Collection[int] = (CLIENT_CORE,),
) -> Iterator[tuple[int, float]]:
    """Runs a server on `cores`, and from then on this process on those of the `clients`.

    Yields its port, and the seconds from start to first 200. Raises NotMeasured.
    """
    python = python_of(contestant.environment) if contestant.environment else Path(sys.executable)
    port, *others = _free_ports()
    places = {"port": port, "port_2": others[0], "port_3": others[1], "repository": subject.repository}
    settings = {name: value.format(**places) for name, value in contestant.settings.items()}
    log = subject.repository.parent / "server.log"
    started = time.perf_counter()
    with log.open("w") as output, on_cores(cores, clients):
        process = subprocess.Popen(
            [str(python), *(argument.format(**places) for argument in contestant.arguments)],
            cwd=SERVERS,
            env=server_environment(subject) | {"BENCH_PORT": str(port)} | settings,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        if not asyncio.run(_first_answer(contestant, subject, port, process)):
            raise NotMeasured(f"no 200 within {time.perf_counter() - started:.0f} s: {_last_line(log)}")
        yield port, time.perf_counter() - started
        if process.poll() is not None:
            raise NotMeasured(f"it ended with status {process.returncode}: {_last_line(log)}")
    finally:
        _stop(process)


async def ask(contestant: Contestant, port: int, request: bytes) -> tuple[int, bytes]:
    """Asks once, over a connection of its own. Returns the status and the answer; the status is 0 without one."""
    connection = contestant.protocol.connect(port)
    try:
        return await asyncio.wait_for(connection.ask(request), _ANSWER_TIMEOUT)
    except asyncio.TimeoutError:
        return 0, b""
    finally:
        await connection.close()


def server_processes() -> dict[int, float]:
    """Returns the CPU seconds of all processes of the server that runs, by process id."""
    used = processes_of(os.getpid())
    del used[os.getpid()]
    return used


def server_environment(subject: Subject) -> dict[str, str]:
    """Returns this process's environment without settings of labelwise, and with what the peers' servers read."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LABELWISE_")}
    scratch = str(subject.repository.parent)
    return kept | {"PYTHONPATH": str(ROOT), "TMPDIR": scratch, "RAY_TMPDIR": scratch} | subject.environment


@contextlib.contextmanager
def on_cores(cores: Collection[int], clients: Collection[int] = (CLIENT_CORE,)) -> Iterator[None]:
    """What is started in the block runs on `cores`; this process itself returns to those of the `clients`."""
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, clients)


async def _first_answer(contestant: Contestant, subject: Subject, port: int, process: subprocess.Popen[bytes]) -> bool:
    """Returns whether a photo got a 200 in time. Looks at the port first: a look costs both sides less than a photo."""
    request = subject.requests(contestant.protocol)[0]
    end = time.perf_counter() + _START_TIMEOUT
    while time.perf_counter() < end and process.poll() is None:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            status, _ = await ask(contestant, port, request)
            if status == 200:
                return True
        await asyncio.sleep(0.01)
    return False


def _free_ports() -> range:
    """Returns three neighbouring ports that nobody uses now: MLServer takes the two after its own."""
    while True:
        ports = range(first := random.randrange(20_000, 30_000), first + 3)
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            for port in ports:
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return ports


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:200] if lines else "it wrote nothing"


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ends the server. What is left of it after a while, and what it left behind, is killed."""
    try:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_TIMEOUT)
    finally:  # also if this process is to end meanwhile
        while left := server_processes():
            for number in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            time.sleep(0.02)
