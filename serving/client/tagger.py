"""The client for ordinary code: the asynchronous one on an event loop in a thread of its own.

So it works where a loop runs already, as in Jupyter, and several threads may share it.
"""

import asyncio
import contextlib
import os
import threading
import weakref
from collections import deque
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Any, TypeVar

from labelwise.spec import TaggerSpec
from serving.client.async_tagger import AsyncTagger
from serving.client.errors import ClientClosed
from serving.client.photos import Photo, require_many
from serving.client.results import Call, EmbedResult, TagResult, Threshold, embedding, tagging

T = TypeVar("T")

_CLOSE_WITHIN = 10.0  # seconds


class Tagger:
    """Tags photos with `model` on `servers`: grpc://host:8001 is a Triton, http://host:8000 a gateway.

    All is as with AsyncTagger, without await. It connects with the first call. It belongs to one process: after a fork,
    make another.
    """

    def __init__(self, servers: str | Sequence[str], model: str | None = None, **options: Any) -> None:
        self._pid = os.getpid()
        self._closing = threading.Lock()
        self._closed = False
        self._client = AsyncTagger(servers, model, **options)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="labelwise-client", daemon=True)
        self._thread.start()
        # Also where nobody closes it: when it is forgotten, or the interpreter ends.
        self._end = weakref.finalize(self, _end, self._pid, self._client, self._loop, self._thread)

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

    def close(self) -> None:
        """Let go of the connections; calls in other threads end with ClientClosed. Safe to call twice."""
        if os.getpid() == self._pid:
            with self._closing:  # what was submitted before this line is known to the loop, and gets an answer
                self._closed = True
            self._end()

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

        `photos` is advanced in the caller's thread.
        """
        require_many(photos)
        return self._stream(photos, tagging(self.spec, labels, exclude, threshold, top_k))

    def embed(
        self, photos: Iterable[Photo], *, labels: Sequence[str] | None = None, exclude: Sequence[str] | None = None
    ) -> list[EmbedResult]:
        """The embeddings of each photo, one a label, or for chosen labels. OutputNotOffered where there are none."""
        require_many(photos)
        return list(self._stream(photos, embedding(self.spec, labels, exclude)))

    def _stream(self, photos: Iterable[Photo], call: Call[T]) -> Iterator[T]:
        pending: deque[Future[T]] = deque()
        window = self._client.window
        try:
            for place, photo in enumerate(photos):
                pending.append(self._submit(self._client.one(photo, place, call)))
                while pending and (pending[0].done() or len(pending) >= window):
                    yield _result(pending.popleft())
            while pending:
                yield _result(pending.popleft())
        finally:
            for future in pending:
                future.cancel()

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return _result(self._submit(work))

    def _submit(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        if os.getpid() != self._pid:
            work.close()
            raise ClientClosed("The client belongs to the process that made it: make one in each process.")
        with self._closing:
            if not self._closed:
                return asyncio.run_coroutine_threadsafe(work, self._loop)
        work.close()
        raise ClientClosed("The client is closed.")


def _result(future: "Future[T]") -> T:
    try:
        return future.result()
    except BaseException:  # such as Ctrl-C: nobody will come back for it
        future.cancel()
        raise


def _end(pid: int, client: AsyncTagger, loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    if os.getpid() != pid:  # a fork has no such thread, and its connections are the parent's
        return
    with contextlib.suppress(Exception):
        asyncio.run_coroutine_threadsafe(_finish(client), loop).result(_CLOSE_WITHIN)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(_CLOSE_WITHIN)
    if not loop.is_running():
        loop.close()


async def _finish(client: AsyncTagger) -> None:
    """Close, and let the calls that ends so tell their callers."""
    await client.close()
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    if others:
        await asyncio.wait(others, timeout=_CLOSE_WITHIN / 2)
