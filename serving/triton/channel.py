"""What every gRPC client of Triton here shares: how its channel behaves, and what Triton's errors mean."""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

from tritonclient.utils import InferenceServerException

from serving.engines.base import EngineError, EngineOverloaded, EngineTimeout, EngineUnavailable, UnknownModel

CHANNEL = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.enable_http_proxy", 0),  # Triton stands beside its clients, never behind a web proxy
    # A Triton that comes back is found within half a second; gRPC's own back-off grows to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 2_000),  # what one attempt to connect may take
    ("grpc.max_reconnect_backoff_ms", 500),
    # A server with default settings says GOAWAY to pings that come more often than every five minutes. This much
    # is still worth it: with keepalive on, unacknowledged data closes a dead connection after the timeout.
    ("grpc.keepalive_time_ms", 330_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 0),
]

# The process in which the Python backend runs a model has died, most likely for want of memory. Triton goes on calling
# the model ready and never starts another.
DEAD_STUB = "is not healthy"

# Of a version that is being unloaded, or of any while Triton stops.
UNLOADED = "is not at ready state"

# Triton says UNAVAILABLE for its queue's limits as well, so its words count before its status.
_BY_MESSAGE: tuple[tuple[str, type[EngineError]], ...] = (
    ("request timeout expired", EngineTimeout),
    ("exceeds maximum queue size", EngineOverloaded),
    (UNLOADED, EngineUnavailable),
    ("has no available versions", EngineUnavailable),  # of a model, while Triton stops
    (DEAD_STUB, EngineUnavailable),
    ("unknown model", UnknownModel),
    ("unknown version", UnknownModel),
)
_BY_STATUS: dict[str | None, type[EngineError]] = {
    "StatusCode.UNAVAILABLE": EngineUnavailable,
    "StatusCode.CANCELLED": EngineUnavailable,
    "StatusCode.DEADLINE_EXCEEDED": EngineTimeout,
    "StatusCode.RESOURCE_EXHAUSTED": EngineOverloaded,
    "StatusCode.NOT_FOUND": UnknownModel,
}


def translated(error: InferenceServerException) -> EngineError:
    """Ours for one of tritonclient's; Triton's words go along for the log."""
    message = " ".join(str(error.message()).split())  # a Python model's traceback has lines
    for words, kind in _BY_MESSAGE:
        if words in message.lower():
            return kind(message)
    return _BY_STATUS.get(error.status(), EngineError)(message)


@contextlib.contextmanager
def our_errors() -> Iterator[None]:
    try:
        yield
    except InferenceServerException as error:
        raise translated(error) from error


async def ask_for_sign(client: Any, within: float) -> None:
    """Asks the Triton of `client`, a tritonclient.grpc.aio one, for a sign of life; an error is one, too.

    It asks where inference requests go, for a model that does not exist: so the answer needs no model, and loading one
    does not delay it. Raises TimeoutError if no answer comes `within` seconds.
    """
    try:
        with our_errors():
            await client.infer("labelwise-sign-of-life", [], client_timeout=within)
    except EngineTimeout:
        raise asyncio.TimeoutError from None
    except EngineError:
        return
