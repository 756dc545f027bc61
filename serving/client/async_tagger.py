"""The client for code that runs on an event loop."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Sequence
from types import TracebackType
from typing import Any, TypeVar

from labelwise.spec import TaggerSpec
from labelwise.tagging import Threshold
from serving.client.calls import Call, Coordinates, embedding, explaining, tagging
from serving.client.options import ClientOptions
from serving.client.photos import Photo, id_of, kept, may_change, require_many
from serving.client.pipeline import Pipeline
from serving.client.results import EmbedResult, ExplainResult, TagResult
from serving.client.stream import each, in_order
from serving.client.transport import Transport, create_transport
from serving.errors import ClientClosed, ClientError, WrongContract

R = TypeVar("R")
Photos = Iterable[Photo] | AsyncIterable[Photo]


class AsyncTagger:
    """Tags photos with `model` on `servers`: grpc://host:8001 is a Triton, http://host:8000 a gateway.

    Several servers of one kind, as a list or separated by commas, take turns; one that is down is left out until it
    answers again. `model` may be left out where a gateway has a default. `options` are those of ClientOptions. It
    connects with the first call, and belongs to the event loop of that call.
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
        self._pipeline: Pipeline | None = None
        self._connecting = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    async def __aenter__(self) -> "AsyncTagger":
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def spec(self) -> TaggerSpec:
        """The model's contract: labels, thresholds, version; known once connected."""
        return self._transport.spec

    async def connect(self) -> None:
        """Reach a server and learn the contract. ServerUnavailable, UnknownModel, WrongContract, Unauthorized."""
        self._require_loop()
        async with self._connecting:
            if self._closed:
                raise ClientClosed("The client is closed.")
            if self._pipeline is not None:
                return
            await self._transport.connect()
            try:
                self._require_labels()
            except BaseException:
                await self._transport.close()
                raise
            pixels = self._transport.takes_pixels and self._options.send != "bytes"
            self._pipeline = Pipeline(self._transport, self._options, pixels)

    async def close(self) -> None:
        """Let go of the connections; calls that are under way end with ClientClosed. Safe to call twice."""
        if self._closed:
            return
        self._require_loop()
        self._closed = True
        if self._pipeline is not None:
            self._pipeline.close()
        await self._transport.close()

    async def tag(
        self,
        photos: Photos,
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
        stream = self.tag_stream(photos, labels=labels, exclude=exclude, threshold=threshold, top_k=top_k)
        return [result async for result in stream]

    async def tag_stream(
        self,
        photos: Photos,
        *,
        labels: Sequence[str] | None = None,
        exclude: Sequence[str] | None = None,
        threshold: Threshold = None,
        top_k: int | None = None,
    ) -> AsyncIterator[TagResult]:
        """`tag` for any number of photos: results in order as they come, few photos in memory at once.

        A plain iterable is advanced on the event loop; give an asynchronous one where reading it takes long. If the
        source fails, that is raised after the results of what came before.
        """
        require_many(photos)
        await self.connect()
        call = tagging(self.spec, labels, exclude, threshold, top_k)
        async with contextlib.aclosing(self._stream(photos, call)) as results:
            async for result in results:
                yield result

    async def embed(
        self, photos: Photos, *, labels: Sequence[str] | None = None, exclude: Sequence[str] | None = None
    ) -> list[EmbedResult]:
        """The embeddings of each photo, one a label, or for chosen labels. OutputNotOffered where there are none."""
        require_many(photos)
        await self.connect()
        return [result async for result in self._stream(photos, embedding(self.spec, labels, exclude))]

    async def explain(
        self,
        photos: Photos,
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
        await self.connect()
        call = explaining(self.spec, labels, exclude, threshold, top_k, coordinates)
        return [result async for result in self._stream(photos, call)]

    def _stream(self, photos: Photos, call: Call[R]) -> AsyncGenerator[R, None]:
        return in_order(_kept(photos), lambda place, photo: self.one(photo, place, call), self.window)

    @property
    def window(self) -> int:
        """How many photos may be under way at once."""
        return self._running.window

    async def one(self, photo: Photo, place: int, call: Call[R]) -> R:
        """The result of `call` for the photo at `place`."""
        return call.result(id_of(photo, place), await self._running.run(photo, call.outputs))

    @property
    def _running(self) -> Pipeline:
        if self._pipeline is None:
            raise ClientClosed("The client is not connected.")
        return self._pipeline

    def _require_loop(self) -> None:
        self._loop = self._loop or asyncio.get_running_loop()
        if self._loop is not asyncio.get_running_loop():
            raise ClientError("The client belongs to the event loop that used it first: make one in each.")

    def _require_labels(self) -> None:
        expected, found = self._options.expect_labels, self.spec.labels
        if expected is not None and tuple(expected) != found:
            raise WrongContract(
                f"{self.spec.name} there has other labels than expected: {', '.join(found)}, not {', '.join(expected)}."
            )


async def _kept(photos: Photos) -> AsyncIterator[Photo]:
    """Each as it is when it comes: its owner may write to it before its turn."""
    async for photo in each(photos):
        yield await asyncio.to_thread(kept, photo) if may_change(photo) else photo
