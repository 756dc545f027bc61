"""The client for ordinary code: the asynchronous one on an event loop in a thread in the background.

So it works where a loop runs already, as in Jupyter, and several threads may share it.
"""

import asyncio
import atexit
import contextlib
import os
import threading
import weakref
from collections import deque
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, TypeVar, cast

from labelwise.spec import TaggerSpec
from labelwise.tagging import Threshold
from serving.client.async_tagger import AsyncTagger
from serving.client.background import background
from serving.client.calls import Call, Coordinates, embedding, explaining, tagging
from serving.client.photos import Photo, kept, require_many
from serving.client.results import EmbedResult, ExplainResult, TagResult
from serving.errors import ClientClosed

T = TypeVar("T")

_CLOSE_WITHIN = 10.0  # seconds
_EXIT_WITHIN = 2.0  # seconds

_open: "weakref.WeakSet[Tagger]" = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """What a program leaves open: a Triton would keep the memory that it shared with it."""
    for tagger in list(_open):
        tagger.close(_EXIT_WITHIN)


class Tagger:
    """Tags photos with `model` on `servers`: grpc://host:8001 is a Triton, http://host:8000 a gateway.

    All is as with AsyncTagger, without await. It connects with the first call. It does not survive a fork, since gRPC
    does not: processes that are started by `spawn` make one each.
    """

    def __init__(self, servers: str | Sequence[str], model: str | None = None, **options: Any) -> None:
        self._pid = os.getpid()
        self._closing = threading.Lock()
        self._closed = False
        self._client = AsyncTagger(servers, model, **options)
        self._loop = background.loop()
        self._forgotten = weakref.finalize(self, _close_sometime, self._pid, self._client, self._loop)
        self._forgotten.atexit = False  # where it need not wait
        _open.add(self)

    def __enter__(self) -> "Tagger":
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def spec(self) -> TaggerSpec:
        """The model's contract: labels, thresholds, version."""
        self.connect()
        return self._client.spec

    def connect(self) -> None:
        """Reach a server and learn the contract. ServerUnavailable, UnknownModel, WrongContract, Unauthorized."""
        self._wait(self._client.connect())

    def close(self, within: float = _CLOSE_WITHIN) -> None:
        """Let go of the connections; calls in other threads end with ClientClosed. Safe to call twice.

        `within`: seconds that it may take where a server hangs.
        """
        if os.getpid() == self._pid:
            with self._closing:  # nothing is submitted after this line that nobody would answer
                self._closed = True
            if self._forgotten.detach():
                with contextlib.suppress(FutureTimeout):  # of a server that hangs: what is left goes with the process
                    asyncio.run_coroutine_threadsafe(self._client.close(), self._loop).result(within)

    def tag(
        self,
        photos: Iterable[Photo],
        *,
        labels: Sequence[str] | None = None,
        exclude: Sequence[str] | None = None,
        threshold: Threshold = None,
        top_k: int | None = None,
    ) -> list[TagResult]:
        """A result for each photo, in order; one that cannot be read has an `error` and no tags.

        `labels`: only these; `exclude`: all but these. `threshold`: one for all labels, or one for each of some, in
        place of the model's own. `top_k`: at most so many tags.
        """
        return list(self.tag_stream(photos, labels=labels, exclude=exclude, threshold=threshold, top_k=top_k))

    def tag_stream(
        self,
        photos: Iterable[Photo],
        *,
        labels: Sequence[str] | None = None,
        exclude: Sequence[str] | None = None,
        threshold: Threshold = None,
        top_k: int | None = None,
    ) -> Iterator[TagResult]:
        """`tag` for any number of photos: results in order as they come, few photos in memory at once.

        `photos` is advanced in the caller's thread, where arrays and PIL images are copied, too. Results that are there
        come with the next photo: where the source may block, take AsyncTagger. If the source fails, that is raised
        after the results of what came before.
        """
        require_many(photos)
        return self._stream(photos, tagging(self.spec, labels, exclude, threshold, top_k))

    def embed(
        self, photos: Iterable[Photo], *, labels: Sequence[str] | None = None, exclude: Sequence[str] | None = None
    ) -> list[EmbedResult]:
        """The embeddings of each photo, one a label, or for chosen labels. OutputNotOffered where there are none."""
        require_many(photos)
        return list(self._stream(photos, embedding(self.spec, labels, exclude)))

    def explain(
        self,
        photos: Iterable[Photo],
        *,
        labels: Sequence[str] | None = None,
        exclude: Sequence[str] | None = None,
        threshold: Threshold = None,
        top_k: int | None = None,
        coordinates: Coordinates = "upright",
    ) -> list[ExplainResult]:
        """Where in each photo its tags were seen, or, with `labels`, exactly those. OutputNotOffered: nobody knows.

        `coordinates`: pixels of the photo `upright`, as a viewer shows it, or as its file has them `stored`.
        """
        require_many(photos)
        return list(self._stream(photos, explaining(self.spec, labels, exclude, threshold, top_k, coordinates)))

    def _stream(self, photos: Iterable[Photo], call: Call[T]) -> Iterator[T]:
        pending: deque[Future[_Outcome[T]]] = deque()
        window = self._client.window
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
                pending.append(self._submit(self._client.one(photo, place, call)))
                while pending and (pending[0].done() or len(pending) >= window):
                    yield _result(pending.popleft())
            while pending:
                yield _result(pending.popleft())
            if failure:
                raise failure
        finally:
            for future in pending:
                future.cancel()

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return _result(self._submit(work))

    def _submit(self, work: Coroutine[Any, Any, T]) -> "Future[_Outcome[T]]":
        if os.getpid() != self._pid:
            work.close()
            raise ClientClosed("The client belongs to the process that made it; start others by 'spawn', each its own.")
        with self._closing:
            if not self._closed:
                return asyncio.run_coroutine_threadsafe(_outcome(work), self._loop)
        work.close()
        raise ClientClosed("The client is closed.")


@dataclass(frozen=True)
class _Outcome(Generic[T]):
    value: T | None
    error: Exception | None


async def _outcome(work: Coroutine[Any, Any, T]) -> _Outcome[T]:
    """Never raises: asyncio would complain of an exception that nobody fetches, as in a stream that is left early."""
    try:
        return _Outcome(await work, None)
    except Exception as error:
        return _Outcome(None, error)


def _result(future: "Future[_Outcome[T]]") -> T:
    try:
        outcome = future.result()
    except BaseException:  # such as Ctrl-C: nobody will come back for it
        future.cancel()
        raise
    if outcome.error is not None:
        raise outcome.error
    return cast(T, outcome.value)


def _close_sometime(pid: int, client: AsyncTagger, loop: asyncio.AbstractEventLoop) -> None:
    """For a client that nobody closed. Garbage is collected in any thread, the loop's included: nothing may wait."""
    if os.getpid() == pid:  # a fork has no such thread, and its connections are the parent's
        asyncio.run_coroutine_threadsafe(client.close(), loop)
