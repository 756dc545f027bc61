"""One process that serves: the engine starts first, then the gateway answers; at the end, the same in reverse."""

import asyncio
import gc
import math
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn
import uvloop

from labelwise.errors import LabelwiseError
from serving.engines import create_engine
from serving.gateway.app import create_app
from serving.gateway.listener import BACKLOG
from serving.gateway.observe.metrics import Metrics
from serving.gateway.requests.connections import connection_options
from serving.gateway.service import TaggingService
from serving.gateway.signals import cancelled_by, signals_ignored
from serving.inference import Engine
from serving.processes import return_large_blocks
from serving.settings import Settings

if TYPE_CHECKING:  # without a Triton, gRPC is not loaded
    from multiprocessing.connection import Connection

    from serving.local_triton.server import BorrowedTriton
    from serving.tracing import Traces


def serve_alone(
    settings: Settings,
    listener: socket.socket,
    on_ready: Callable[[], None],
    parent: "Connection | None" = None,
    triton: "BorrowedTriton | None" = None,
) -> None:
    """Serves on `listener` until a signal, or until `parent` ends. Raises LabelwiseError if it cannot start."""
    return_large_blocks()
    uvloop.run(_serve(settings, listener, on_ready, parent, triton))  # costs a third less than asyncio's own loop


class AnnouncingServer(uvicorn.Server):
    """uvicorn, with two differences: it says when it is ready, and it ends by returning, so that the engine closes.

    While it answers already, it waits for `last_step`. A LabelwiseError of that step ends it, and is its `failure`.
    """

    def __init__(
        self, config: uvicorn.Config, last_step: Callable[[], Awaitable[None]], on_ready: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._last_step, self._on_ready = last_step, on_ready
        self.failure: LabelwiseError | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or []:
            listener.listen(BACKLOG)  # for the kernel; uvicorn's own is how many it accepts at once
        self._announcing = asyncio.create_task(self._announce())

    async def _announce(self) -> None:
        try:
            await self._last_step()
        except LabelwiseError as error:
            self.failure, self.should_exit = error, True
        else:
            self._on_ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True


async def _serve(
    settings: Settings,
    listener: socket.socket,
    on_ready: Callable[[], None],
    parent: "Connection | None",
    triton: "BorrowedTriton | None",
) -> None:
    if parent is not None:
        asyncio.get_running_loop().add_reader(parent.fileno(), _end_after, parent)
    metrics, traces = Metrics(), _traces(settings)
    engine = create_engine(settings, metrics.observe_wait("engine"), metrics.count_run, triton)
    app = create_app(settings, engine, metrics, traces)
    service: TaggingService = app.state.service
    try:
        with cancelled_by(signal.SIGTERM):  # until uvicorn handles the signals
            await engine.start()
        _require_default(settings, engine)
        config = uvicorn.Config(
            **connection_options(app, settings, lambda code: metrics.problems.labels(code).inc()),
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,  # nothing here uses the client's address or the scheme
            timeout_graceful_shutdown=math.ceil(settings.shutdown_timeout),
        )
        gc.freeze()  # a collection that looks at all that was imported would hold up every request for 50 ms
        # Ordinary photos need no decoder process, whose start would take the only core from the model's.
        server = AnnouncingServer(config, service.decoders.start, on_ready)
        await server.serve([listener])
        if server.failure:
            raise server.failure
    finally:
        with signals_ignored():
            if app.state.feedback is not None:
                await app.state.feedback.close()
            await service.decoders.close()
            await engine.close()
            metrics.writes.write()
            if traces is not None:
                await asyncio.to_thread(traces.close)


def _end_after(parent: "Connection") -> None:
    """The parent never writes, so the pipe becomes readable only when the parent ends."""
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
        from serving.tracing import Traces

        return Traces(settings.trace_endpoint, settings.trace_ratio)
    except ValueError as error:  # OpenTelemetry reads environment variables of its own
        raise LabelwiseError(f"A variable OTEL_* of the environment is wrong: {error}") from error
