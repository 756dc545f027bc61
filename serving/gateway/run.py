"""`labelwise serve`: the port first, then the engine, then the gateway; and the same in reverse at the end."""

import asyncio
import contextlib
import logging
import math
import os
import signal
import socket
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn

from labelwise.errors import LabelwiseError
from serving.engines import create_engine
from serving.engines.base import Engine
from serving.gateway.access.exposure import check_exposure
from serving.gateway.app import create_app
from serving.gateway.listener import BACKLOG, bind, url_of
from serving.gateway.observe.logs import configure_logging
from serving.gateway.observe.metrics import Metrics
from serving.gateway.requests.connections import connection_options
from serving.gateway.service import TaggingService
from serving.local_triton.borrowed import BorrowedTriton
from serving.memory import return_large_blocks
from serving.settings import Settings, unknown_variables

if TYPE_CHECKING:
    from serving.gateway.observe.tracing import Traces

try:
    from uvloop import run as run_loop  # a third of the event loop's cost less
except ImportError:  # there is none for Windows
    from asyncio import run as run_loop  # type: ignore[assignment]

logger = logging.getLogger("labelwise.gateway")


def run(settings: Settings) -> None:
    """Serve until SIGINT, SIGTERM or SIGHUP. LabelwiseError if it cannot start."""
    check_exposure(settings)
    _end_well_at_hang_up()
    configure_logging(settings)
    for name in unknown_variables():
        logger.warning("the environment variable %s is no setting of the gateway, and is ignored", name)
    with bind(settings.host, settings.port) as listener, contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
        if settings.workers > 1:
            from serving.gateway.supervisor import supervise

            asyncio.run(supervise(settings, listener))
        else:
            run_alone(settings, listener, lambda: announce(listener))


def _end_well_at_hang_up() -> None:
    """A terminal that closes is no reason to drop requests and leave folders behind, unless nohup said to go on."""
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
        signal.signal(signal.SIGHUP, lambda *_: os.kill(os.getpid(), signal.SIGTERM))


def announce(listener: socket.socket) -> None:
    """The line that says where, once it answers; scripts wait for it. Where nobody reads it, it serves all the same."""
    with contextlib.suppress(OSError):
        print(f"labelwise is ready: {url_of(listener)}", flush=True)


def run_alone(
    settings: Settings,
    listener: socket.socket,
    on_ready: Callable[[], None],
    parent: Connection | None = None,
    triton: BorrowedTriton | None = None,
) -> None:
    """One process that serves on `listener`; ends with its `parent`, too. Raises as `run` does."""
    return_large_blocks()
    run_loop(_serve(settings, listener, on_ready, parent, triton))


class _Server(uvicorn.Server):
    """uvicorn, announcing itself when it answers, and ending by returning, so that the engine is closed too."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or []:
            listener.listen(BACKLOG)  # what the kernel holds; uvicorn's is how many are accepted in one go
        self._on_ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True


async def _serve(
    settings: Settings,
    listener: socket.socket,
    on_ready: Callable[[], None],
    parent: Connection | None,
    triton: BorrowedTriton | None,
) -> None:
    if parent is not None:
        asyncio.get_running_loop().add_reader(parent.fileno(), _end_after, parent)
    metrics, traces = Metrics(), _traces(settings)
    engine = create_engine(settings, metrics.queue_seconds.labels("engine").observe, triton)
    app = create_app(settings, engine, metrics, traces)
    service: TaggingService = app.state.service
    try:
        service.launch()
        with _cancelled_by_sigterm():
            await engine.start()
            await service.started()
        _require_default(settings, engine)
        config = uvicorn.Config(
            **connection_options(app, settings, lambda code: metrics.problems.labels(code).inc()),
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,  # nobody here asks for the client's address or the scheme
            timeout_graceful_shutdown=math.ceil(settings.shutdown_timeout),
        )
        await _Server(config, on_ready).serve([listener])
    finally:
        with _signals_ignored():
            await service.close()
            await engine.close()
            if traces is not None:
                await asyncio.to_thread(traces.close)


def _end_after(parent: Connection) -> None:
    """It never writes, so what there is to read is its end."""
    asyncio.get_running_loop().remove_reader(parent.fileno())
    os.kill(os.getpid(), signal.SIGTERM)


def _require_default(settings: Settings, engine: Engine) -> None:
    name, there = settings.default_model, engine.catalogue
    if name is not None and name not in there:
        raise LabelwiseError(f"The setting default_model: there is no model {name}; there is {', '.join(there)}.")


def _traces(settings: Settings) -> "Traces | None":
    if settings.trace_endpoint is None:
        return None
    try:
        from serving.gateway.observe.tracing import Traces

        return Traces(settings.trace_endpoint, settings.trace_ratio)
    except ValueError as error:  # it reads variables of its own
        raise LabelwiseError(f"A variable OTEL_* of the environment is wrong: {error}") from error


@contextlib.contextmanager
def _signals_ignored() -> Iterator[None]:
    """A second SIGTERM or SIGINT must not cut the clean-up short, which is bounded by itself."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
