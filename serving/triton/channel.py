"""What all gRPC clients of Triton share here: the options of the channel, and what Triton's errors mean."""

import asyncio
import contextlib
import re
from collections.abc import Iterator
from typing import Any

from tritonclient.utils import InferenceServerException

from serving.errors import (
    PhotoError,
    PhotosRefused,
    ServerBusy,
    ServerFailed,
    ServerTimeout,
    ServerUnavailable,
    ServingError,
    UnknownModel,
)

CHANNEL = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.enable_http_proxy", 0),  # Triton stands beside its clients, never behind a web proxy
    # A Triton that comes back is found within half a second; gRPC's own back-off grows to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 2_000),  # the longest that one attempt to connect may take
    ("grpc.max_reconnect_backoff_ms", 500),
    # A server with default settings answers GOAWAY to more than one ping in five minutes. Rare pings are still worth
    # it: with keepalive on, unacknowledged data closes a dead connection after the timeout.
    ("grpc.keepalive_time_ms", 330_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 0),
]


class VersionUnloaded(ServerUnavailable):
    """Triton is about to unload this version, or all of them because it stops."""


class ModelProcessDied(ServerUnavailable):
    """The process in which the Python backend runs a model has died, most likely because memory ran out.

    Triton still reports the model as ready and never starts another process.
    """


class RegionForgotten(ServingError):
    """Triton was started again and does not know the region of shared memory."""


# Triton's status is UNAVAILABLE for a full queue too, so its words count before its status.
_BY_WORDS: tuple[tuple[str, type[ServingError]], ...] = (
    ("request timeout expired", ServerTimeout),
    ("exceeds maximum queue size", ServerBusy),
    ("is not at ready state", VersionUnloaded),
    ("has no available versions", ServerUnavailable),  # said while Triton stops
    ("is not healthy", ModelProcessDied),
    ("unknown model", UnknownModel),
    ("unknown version", UnknownModel),
    ("find shared memory region", RegionForgotten),
)
_BY_STATUS: dict[str | None, type[ServingError]] = {
    "StatusCode.UNAVAILABLE": ServerUnavailable,
    "StatusCode.CANCELLED": ServerUnavailable,
    "StatusCode.DEADLINE_EXCEEDED": ServerTimeout,
    "StatusCode.RESOURCE_EXHAUSTED": ServerBusy,
    "StatusCode.NOT_FOUND": UnknownModel,
}


_SENTENCES: tuple[tuple[type[ServingError], str], ...] = (
    (ServerBusy, "The queue of {} is full"),
    (ServerUnavailable, "{} does not answer"),
    (ServerTimeout, "{} did not answer in time"),
    (UnknownModel, "{} does not serve the model"),
    (ServingError, "{} failed"),
)
_REFUSED = re.compile(r"image (\d+) of \d+: (image_\w+): (.*)")  # the decode model's words
_LONGEST = 500  # characters of Triton's own words in a message


def translated(error: InferenceServerException, url: str) -> ServingError:
    """Returns our error for tritonclient's, which came from the Triton at `url`."""
    words = " ".join(str(error.message()).split())  # a Python model's traceback has lines
    if refused := _REFUSED.search(words):
        return PhotosRefused({int(refused[1]) - 1: PhotoError(refused[2], refused[3])})
    by_words = (kind for part, kind in _BY_WORDS if part in words.lower())
    kind = next(by_words, None) or _BY_STATUS.get(error.status(), ServerFailed)
    sentence = next(text for root, text in _SENTENCES if issubclass(kind, root))
    return kind(f"{sentence.format(url)}: {words[:_LONGEST]}")


@contextlib.contextmanager
def our_errors(url: str) -> Iterator[None]:
    try:
        yield
    except InferenceServerException as error:
        raise translated(error, url) from error


async def ask_for_sign(client: Any, url: str, within: float) -> None:
    """Asks the Triton of `client`, a tritonclient.grpc.aio one, for a sign of life; an error is one, too.

    It sends an inference request for a model that does not exist: so the answer needs no model, and a model that is
    being loaded does not delay it. Raises TimeoutError if no answer comes `within` seconds.
    """
    try:
        with our_errors(url):
            await client.infer("labelwise-sign-of-life", [], client_timeout=within)
    except ServerTimeout:
        raise asyncio.TimeoutError from None
    except ServingError:
        return
