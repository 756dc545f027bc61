"""The client for ordinary code: the asynchronous one on an event loop in a background thread.

So it works where a loop runs already, as in Jupyter, and several threads may share it.
"""

import asyncio
import atexit
import contextlib
import functools
import os
import threading
import weakref
from collections import deque
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, TypeVar

from labelwise.spec import TaggerSpec
from labelwise.tagging import Threshold
from serving.client.async_tagger import AsyncTagger
from serving.client.calls import (
    Call,
    Coordinates,
    EmbedResult,
    ExplainResult,
    TagResult,
    chosen,
    embedding,
    explaining,
    tagging,
)
from serving.client.photos import PhotoLike, kept, require_many
from serving.errors import ClientClosed

T = TypeVar("T")

_CLOSE_WITHIN = 10.0  # seconds
_EXIT_WITHIN = 2.0  # seconds

_open: "weakref.WeakSet[Tagger]" = weakref.WeakSet()


_Running = Future[T | Exception]  # work on the loop in the background


@functools.cache
def _background_loop(process: int) -> asyncio.AbstractEventLoop:
    """The event loop of all clients of a process that are used without one, in a daemon thread. A fork has none.

    gRPC's polling thread serves every loop of a process and stumbles over closed ones, so this one stays open.
    """
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="labelwise-client", daemon=True).start()
    return loop


def _result_of(running: _Running[T]) -> T:
    """Waits for the result of the work. Raises what it raised."""
    try:
        outcome = running.result()
    except BaseException:  # such as Ctrl-C: the caller will not come back for it
        running.cancel()
        raise
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


async def _outcome(work: Coroutine[Any, Any, T]) -> T | Exception:
    """Never raises: asyncio complains about an exception that is never fetched, as in a stream that is left early."""
    try:
        return await work
    except Exception as error:
        return error


@atexit.register
def _close_all() -> None:
    """Closes what a program leaves open: otherwise Triton would keep the memory that it shared."""
    for tagger in list(_open):
        tagger.close(_EXIT_WITHIN)


class Tagger:
    """Tags photos with `model` on `servers`: grpc://host:8001 is a Triton, http://host:8000 a gateway.

    Several servers of one kind, as a list or separated by commas, take turns; one that is down is left out until it
    answers again. `model` may be left out if a gateway has a default. `options` are those of ClientOptions. The client
    connects with the first call. It does not survive a fork, since gRPC does not: start processes by `spawn` and make
    one client in each.
    """

    def __init__(self, servers: str | Sequence[str], model: str | None = None, **options: Any) -> None:
        self._pid = os.getpid()
        self._closing = threading.Lock()
        self._closed = False
        self._client = AsyncTagger(servers, model, **options)
        self._loop = _background_loop(self._pid)
        self._forgotten = weakref.finalize(self, _close_sometime, self._pid, self._client, self._loop)
        self._forgotten.atexit = False  # at exit nothing needs to wait for it
        _open.add(self)

    def __enter__(self) -> "Tagger":
        self.connect()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def spec(self) -> TaggerSpec:
        """The model's contract: labels, thresholds, version."""
        self.connect()
        return self._client.spec

    def connect(self) -> None:
        """Reaches a server and learns the contract.

        Raises ServerUnavailable, UnknownModel, WrongContract or Unauthorized.
        """
        _result_of(self._submit(self._client.connect()))

    def close(self, within: float = _CLOSE_WITHIN) -> None:
        """Closes the connections. Calls in other threads end with ClientClosed. Safe to call twice.

        `within`: seconds that it may take if a server hangs.
        """
        if os.getpid() == self._pid:
            with self._closing:  # after this line no call is submitted, because it would never be answered
                self._closed = True
            if self._forgotten.detach():
                with contextlib.suppress(FutureTimeout):  # a server hangs: the rest ends with the process
                    asyncio.run_coroutine_threadsafe(self._client.close(), self._loop).result(within)

    def tag(
        self,
        photos: Iterable[PhotoLike],
        *,
        labels: Sequence[str] | None = None,
        exclude: Sequence[str] | None = None,
        threshold: Threshold = None,
        top_k: int | None = None,
    ) -> list[TagResult]:
        """Returns a result for each photo, in order. A photo that cannot be read has an `error` and no tags.

        `labels`: only these; `exclude`: all but these. `threshold`: one number for all labels, or a mapping for some,
        in place of the model's own. `top_k`: at most this many tags.
        """
        return list(self.tag_stream(photos, labels=labels, exclude=exclude, threshold=threshold, top_k=top_k))

    def tag_stream(
        self,
        photos: Iterable[PhotoLike],
        *,
        labels: Sequence[str] | None = None,
        exclude: Sequence[str] | None = None,
        threshold: Threshold = None,
        top_k: int | None = None,
    ) -> Iterator[TagResult]:
        """Like `tag`, for any number of photos: yields results in order as they come, with few photos in memory.

        `photos` is advanced, and arrays and PIL images are copied, in the caller's thread. A result comes with the next
        photo at the earliest: if the source may block, take AsyncTagger. If the source fails, its error is raised after
        the results of the photos before.
        """
        require_many(photos)
        return self._stream(photos, tagging(chosen(self.spec, labels, exclude, threshold, top_k)))

    def embed(
        self, photos: Iterable[PhotoLike], *, labels: Sequence[str] | None = None, exclude: Sequence[str] | None = None
    ) -> list[EmbedResult]:
        """Returns the embeddings of each photo, one per label or per chosen label.

        Raises OutputNotOffered if the model has none.
        """
        require_many(photos)
        return list(self._stream(photos, embedding(chosen(self.spec, labels, exclude))))

    def explain(
        self,
        photos: Iterable[PhotoLike],
        *,
        labels: Sequence[str] | None = None,
        exclude: Sequence[str] | None = None,
        threshold: Threshold = None,
        top_k: int | None = None,
        coordinates: Coordinates = "upright",
    ) -> list[ExplainResult]:
        """Returns where in each photo its tags were seen or, with `labels`, where those labels were seen.

        `coordinates`: pixels of the photo `upright`, as a viewer shows it, or as they are `stored` in its file. Raises
        OutputNotOffered if the model has no attention.
        """
        require_many(photos)
        choice = chosen(self.spec, labels, exclude, threshold, top_k)
        return list(self._stream(photos, explaining(choice, coordinates)))

    def _stream(self, photos: Iterable[PhotoLike], call: Call[T]) -> Iterator[T]:
        pending: deque[_Running[T]] = deque()
        runner = self._client.runner
        failure: Exception | None = None
        source = enumerate(photos)
        try:
            while True:
                try:
                    place, photo = next(source)
                    photo = kept(photo)  # its owner may write to it before its turn
                except StopIteration:
                    break
                except Exception as error:
                    failure = error
                    break
                pending.append(self._submit(runner.run(photo, place, call)))
                while pending and (pending[0].done() or len(pending) >= runner.window):
                    yield _result_of(pending.popleft())
            while pending:
                yield _result_of(pending.popleft())
            if failure:
                raise failure
        finally:
            for future in pending:
                future.cancel()

    def _submit(self, work: Coroutine[Any, Any, T]) -> _Running[T]:
        if os.getpid() != self._pid:
            work.close()
            raise ClientClosed(
                "The client belongs to the process that made it: use 'spawn' and make one client in each process."
            )
        with self._closing:
            if not self._closed:
                return asyncio.run_coroutine_threadsafe(_outcome(work), self._loop)
        work.close()
        raise ClientClosed("The client is closed.")


def _close_sometime(pid: int, client: AsyncTagger, loop: asyncio.AbstractEventLoop) -> None:
    """Closes a client that was not closed. Must not wait: garbage may be collected in any thread, also the loop's."""
    if os.getpid() == pid:  # a fork has no such thread, and its connections are the parent's
        asyncio.run_coroutine_threadsafe(client.close(), loop)
