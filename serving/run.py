"""`labelwise serve`: the port first, then the engine, then the gateway; and the same in reverse at the end."""

import asyncio
import contextlib
import math
import signal
import socket
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn

from labelwise.errors import LabelwiseError
from serving.app import create_app
from serving.connections import connection_options
from serving.engines import create_engine
from serving.exposure import check_exposure
from serving.logs import configure_logging
from serving.memory import return_large_blocks
from serving.metrics import Metrics
from serving.settings import Settings

if TYPE_CHECKING:
    from serving.tracing import Traces

try:
    from uvloop import run as run_loop  # a third of the event loop's cost less
except ImportError:  # there is none for Windows
    from asyncio import run as run_loop  # type: ignore[assignment]

_BACKLOG = 2048


def run(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM. LabelwiseError if it cannot start."""
    check_exposure(settings)
    configure_logging(settings)
    return_large_blocks()
    with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
        run_loop(_serve(settings))


class _Server(uvicorn.Server):
    """uvicorn, announcing itself when it answers, and ending by returning, so that the engine is closed too."""

    def __init__(self, config: uvicorn.Config, url: str) -> None:
        super().__init__(config)
        self._url = url

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or []:
            listener.listen(_BACKLOG)  # what the kernel holds; uvicorn's is how many are accepted in one go
        print(f"labelwise is ready: {self._url}", flush=True)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True


async def _serve(settings: Settings) -> None:
    with _bind(settings.host, settings.port) as listener:
        metrics, traces = Metrics(), _traces(settings)
        engine = create_engine(settings, metrics.queue_seconds.labels("engine").observe)
        try:
            with _cancelled_by_sigterm():
                await engine.start()
            app = create_app(settings, engine, metrics, traces)
            config = uvicorn.Config(
                **connection_options(app, settings, lambda code: metrics.problems.labels(code).inc()),
                log_config=None,
                log_level="warning",
                access_log=False,
                server_header=False,
                proxy_headers=False,  # nobody here asks for the client's address or the scheme
                timeout_graceful_shutdown=math.ceil(settings.shutdown_timeout),
            )
            await _Server(config, _url(listener)).serve([listener])
        finally:
            with _signals_ignored():
                await engine.close()
                if traces is not None:
                    await asyncio.to_thread(traces.close)


def _traces(settings: Settings) -> "Traces | None":
    if settings.trace_endpoint is None:
        return None
    from serving.tracing import Traces

    return Traces(settings.trace_endpoint, settings.trace_ratio)


@contextlib.contextmanager
def _signals_ignored() -> Iterator[None]:
    """A second SIGTERM or SIGINT must not cut the clean-up short, which is bounded by itself."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _bind(host: str, port: int) -> socket.socket:
    """A bound socket, before the slow part: a port in use is known at once."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named, for asyncio switches Nagle's algorithm off only where it reads TCP here: with it on, each answer after the
    # first of a connection would wait 40 ms for the client's delayed acknowledgement.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(_BACKLOG)  # Linux lets two sockets bind to one port as long as neither listens
    except OSError as error:
        listener.close()
        reason = (error.strerror or "not possible").lower()
        raise LabelwiseError(
            f"Cannot listen on {host}:{port}: {reason}. Choose another with --port or --host."
        ) from error
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{shown}:{port}"


@contextlib.contextmanager
def _cancelled_by_sigterm() -> Iterator[None]:
    """Until uvicorn takes the signals over, SIGTERM must end the start and still close the engine."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
