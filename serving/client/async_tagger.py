"""The client for code that runs on an event loop."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

from labelwise.label_names import some
from labelwise.spec import TaggerSpec
from labelwise.tagging import Threshold
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
from serving.client.options import ClientOptions
from serving.client.photo_runner import PhotoRunner
from serving.client.photos import PhotoLike, kept, may_change, require_many
from serving.client.transport import Transport, create_transport
from serving.errors import ClientClosed, ClientError, WrongContract

T = TypeVar("T")
R = TypeVar("R")
ManyPhotos = Iterable[PhotoLike] | AsyncIterable[PhotoLike]


class AsyncTagger:
    """Tagger for code on an event loop, with the same arguments and methods.

    It connects with the first call, and belongs to the event loop of that call.
    """

    def __init__(self, servers: str | Sequence[str], model: str | None = None, **options: Any) -> None:
        self._options = ClientOptions(**options)
        self._transport: Transport = create_transport(
            servers,
            model,
            key=self._options.key,
            connect_timeout=self._options.connect_timeout,
            shared_memory=self._options.shared_memory,
        )
        if self._options.send == "pixels" and not self._transport.takes_pixels:
            raise ClientError("A gateway takes photos as bytes; pixels go to a Triton, grpc://HOST:8001.")
        self._runner: PhotoRunner | None = None
        self._connecting = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    async def __aenter__(self) -> "AsyncTagger":
        await self.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def spec(self) -> TaggerSpec:
        """The model's contract: labels, thresholds, version. Raises ClientClosed before the client is connected."""
        return self._transport.spec

    async def connect(self) -> None:
        """See Tagger.connect."""
        self._require_loop()
        async with self._connecting:
            if self._closed:
                raise ClientClosed("The client is closed.")
            if self._runner is not None:
                return
            await self._transport.connect()
            try:
                self._require_labels()
            except BaseException:
                await self._transport.close()
                raise
            self._runner = PhotoRunner(self._transport, self._options)

    async def close(self) -> None:
        """Closes the connections. Calls under way end with ClientClosed. Safe to call twice."""
        if self._closed:
            return
        self._require_loop()
        self._closed = True
        if self._runner is not None:
            self._runner.close()
        await self._transport.close()

    async def tag(
        self,
        photos: ManyPhotos,
        *,
        labels: Sequence[str] | None = None,
        exclude: Sequence[str] | None = None,
        threshold: Threshold = None,
        top_k: int | None = None,
    ) -> list[TagResult]:
        """See Tagger.tag."""
        stream = self.tag_stream(photos, labels=labels, exclude=exclude, threshold=threshold, top_k=top_k)
        return [result async for result in stream]

    async def tag_stream(
        self,
        photos: ManyPhotos,
        *,
        labels: Sequence[str] | None = None,
        exclude: Sequence[str] | None = None,
        threshold: Threshold = None,
        top_k: int | None = None,
    ) -> AsyncIterator[TagResult]:
        """See Tagger.tag_stream.

        A plain iterable is advanced on the event loop; give an asynchronous one if reading it takes long.
        """
        require_many(photos)
        await self.connect()
        call = tagging(chosen(self.spec, labels, exclude, threshold, top_k))
        async with contextlib.aclosing(self._stream(photos, call)) as results:
            async for result in results:
                yield result

    async def embed(
        self, photos: ManyPhotos, *, labels: Sequence[str] | None = None, exclude: Sequence[str] | None = None
    ) -> list[EmbedResult]:
        """See Tagger.embed."""
        require_many(photos)
        await self.connect()
        return [result async for result in self._stream(photos, embedding(chosen(self.spec, labels, exclude)))]

    async def explain(
        self,
        photos: ManyPhotos,
        *,
        labels: Sequence[str] | None = None,
        exclude: Sequence[str] | None = None,
        threshold: Threshold = None,
        top_k: int | None = None,
        coordinates: Coordinates = "upright",
    ) -> list[ExplainResult]:
        """See Tagger.explain."""
        require_many(photos)
        await self.connect()
        call = explaining(chosen(self.spec, labels, exclude, threshold, top_k), coordinates)
        return [result async for result in self._stream(photos, call)]

    def _stream(self, photos: ManyPhotos, call: Call[R]) -> AsyncGenerator[R, None]:
        runner = self.runner
        return in_order(_kept(photos), lambda place, photo: runner.run(photo, place, call), runner.window)

    @property
    def runner(self) -> PhotoRunner:
        """For Tagger, which itself keeps a stream's photos in order."""
        if self._runner is None:
            raise ClientClosed("The client is not connected.")
        return self._runner

    def _require_loop(self) -> None:
        self._loop = self._loop or asyncio.get_running_loop()
        if self._loop is not asyncio.get_running_loop():
            raise ClientError("The client belongs to the event loop that used it first: make one per event loop.")

    def _require_labels(self) -> None:
        expected, found = self._options.expect_labels, self.spec.labels
        if expected is not None and tuple(expected) != found:
            raise WrongContract(
                f"{self.spec.name} there has other labels than expected: {some(found)}, not {some(tuple(expected))}."
            )


async def _kept(photos: ManyPhotos) -> AsyncIterator[PhotoLike]:
    """Keeps each photo as it is when it comes: its owner may write to it before its turn."""
    async for photo in each(photos):
        yield await asyncio.to_thread(kept, photo) if may_change(photo) else photo


async def in_order(
    items: Iterable[T] | AsyncIterable[T], answer: Callable[[int, T], Awaitable[R]], window: int
) -> AsyncGenerator[R, None]:
    """Yields `answer(place, item)` for each item, in order and as soon as it is there; at most `window` are under way.

    A plain iterable is advanced on the event loop. A failure ends the stream, after the results before it.
    """
    source = each(items)
    coming: asyncio.Future[T] | None = asyncio.ensure_future(source.__anext__())
    pending: deque[asyncio.Future[R]] = deque()
    place = 0
    end: Exception | None = None  # StopAsyncIteration, or why the source failed
    try:
        while coming or pending:
            first = [future for future in (coming, pending[0] if pending else None) if future]
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            while pending and pending[0].done():
                yield pending.popleft().result()
            if coming and coming.done():
                try:
                    pending.append(asyncio.ensure_future(answer(place, coming.result())))
                    place += 1
                except Exception as error:
                    end = error
                coming = None
            if coming is None and end is None and len(pending) < window:
                coming = asyncio.ensure_future(source.__anext__())
        if end and not isinstance(end, StopAsyncIteration):
            raise end
    finally:
        under_way: list[asyncio.Future[Any]] = [*pending, *([coming] if coming else [])]
        for future in under_way:
            future.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)


async def each(items: Iterable[T] | AsyncIterable[T]) -> AsyncIterator[T]:
    """Iterates over both kinds in the same way."""
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
