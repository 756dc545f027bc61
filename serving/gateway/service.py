"""From a request with photos to its answer: admit and read, decode and run, put into words, all before a deadline."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from fastapi import Request

from labelwise.attention import locate
from labelwise.image import ImageError, Photo
from labelwise.repository import default_tagger
from labelwise.spec import TaggerSpec
from labelwise.tagging import Choice
from serving.errors import UnknownModel
from serving.gateway.answers.embedding import Embeddings
from serving.gateway.answers.explaining import ExplainAnswer, ExplainQuery, make_explanation
from serving.gateway.answers.overlay import MOST_SIDE, draw_overlay
from serving.gateway.answers.tagging import (
    BatchAnswer,
    PhotoResult,
    ScoredPhoto,
    TagAnswer,
    make_answer,
    make_batch_answer,
)
from serving.gateway.lessons.lessons import Lessons
from serving.gateway.observe.metrics import Metrics
from serving.gateway.problems import GatewayError
from serving.gateway.requests.admission import Admission, Place
from serving.gateway.requests.deadline import Deadline, EndedByHangUp, deadline_exceeded, requested_timeout
from serving.gateway.requests.decoders import Decoders, loader_of
from serving.gateway.requests.forms import Item
from serving.gateway.requests.pace import Gate
from serving.gateway.requests.query import LabelQuery, TagQuery, choose, refuse_repeats
from serving.gateway.requests.upload import Uploads
from serving.inference import Engine, Outputs, Pixels
from serving.settings import Settings
from serving.stages import Stage

# Larger batches are hardly faster on a CPU, and the next request waits for a whole one.
_MOST_AT_ONCE = 16
# Photos that are decoded and run, or sent to Triton: enough for full batches. Others wait as files, which are small.
_MOST_AT_WORK = 64

T = TypeVar("T")


class _PhotoRun(NamedTuple):
    """One photo that went through the model of `choice`: `outputs` are [1, …]."""

    choice: Choice
    data: bytes
    photo: Photo
    outputs: Outputs
    deadline: Deadline


class _Work:
    """So many photos that were let through the gate leave it at the end of the `with` block."""

    def __init__(self, service: "TaggingService", images: int) -> None:
        self._service, self._images = service, images

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._service.gate.leave(self._images)
        if kind is None or issubclass(kind, ImageError):
            self._service.admission.pace.answered(self._images)


class TaggingService:
    """Answers requests for the routes; holds the engine, the decoders and the places for requests.

    The caller starts and closes the engine and the decoders.
    """

    def __init__(self, settings: Settings, engine: Engine, metrics: Metrics) -> None:
        self.settings, self.engine, self.metrics = settings, engine, metrics
        self.admission = Admission(settings.max_requests, settings.max_pending_images, settings.max_pending_bytes)
        self.gate = Gate(max(_MOST_AT_WORK, 2 * _MOST_AT_ONCE * settings.threads))
        self.observe_turn, on_wait = metrics.observe_wait("turn"), metrics.observe_wait("decode")
        limits = settings.max_pixels, settings.max_decoding_pixels
        self.decoders = Decoders(settings.threads, *limits, on_wait, loader_of(settings.decode))
        self.uploads = Uploads(settings, self.decoders)
        self.lessons = Lessons(settings, engine, self.uploads, metrics)

    async def tag(self, request: Request, query: TagQuery) -> TagAnswer:
        """Tags the photo in the request's body. Raises GatewayError, ImageError or ServingError, as the others do."""
        with self.place(request) as place:
            run = await self._one(request, place, query, "scores")
            scored = ScoredPhoto(run.outputs["scores"][0], run.photo.notes)
            return make_answer(run.choice, scored, query, request.scope["state"]["request_id"])

    async def tag_batch(self, request: Request, query: TagQuery) -> BatchAnswer:
        """Tags all photos in the request's body. An error of one photo is its result."""
        with self.place(request) as place:
            choice = self._choose(query)
            with Stage("receive", self.metrics.observe_receive):
                items = await self.uploads.batch(request, place)
            request.scope["state"].update(model=choice.spec.name, version=choice.spec.version, images=len(items))
            with self.metrics.in_flight(), EndedByHangUp(request):
                deadline = Deadline(place.seconds)
                choice, results = await self._on_served(
                    request, query, choice, lambda spec: self._run_many(items, spec, deadline)
                )
            scored = [result for result in results if isinstance(result, ScoredPhoto)]
            _log_notes(request, (sentence for photo in scored for sentence in photo.notes))
        return make_batch_answer(
            choice, [item.id for item in items], results, query, request.scope["state"]["request_id"]
        )

    async def explain(self, request: Request, query: ExplainQuery) -> ExplainAnswer:
        """Returns where in the photo its labels were seen."""
        with self.place(request) as place:
            run = await self._one(request, place, query, "scores", "attention")
            scores, attention = run.outputs["scores"][0], run.outputs["attention"][0]
            return make_explanation(
                run.choice, scores, attention, run.photo, query, request.scope["state"]["request_id"]
            )

    async def explain_as_picture(self, request: Request, query: ExplainQuery) -> bytes:
        """Returns the same as a PNG of the upright photo."""
        with self.place(request) as place:
            run = await self._one(request, place, query, "scores", "attention")
            choice = run.choice
            places, tags = choice.explained(run.outputs["scores"][0])
            seen = locate(run.outputs["attention"][0][places], run.photo.size, choice.spec.image)
            with self.metrics.in_flight(), EndedByHangUp(request):
                # Decoded again: the model's picture is too small to look at.
                return await self.decoders.small(
                    run.data, MOST_SIDE, run.deadline, lambda photo: draw_overlay(photo, seen, tags)
                )

    async def embed(self, request: Request, query: LabelQuery) -> tuple[Choice, Embeddings, Sequence[str]]:
        """Returns the chosen labels, the photo's embeddings of all labels [l, p], and the notes about the photo."""
        with self.place(request) as place:
            run = await self._one(request, place, query, "embeddings")
            return run.choice, run.outputs["embeddings"][0], run.photo.notes

    @property
    def default_model(self) -> str | None:
        """The model for requests that name none, or None if each has to name one: see default_tagger."""
        return default_tagger(self.engine.catalogue, self.settings.default_model)

    def find(self, model: str | None, version: int | None) -> TaggerSpec:
        """Returns the contract of a model, by default `default_model`, in a version, by default the newest."""
        catalogue = self.engine.catalogue
        if not catalogue:
            raise GatewayError("engine_unavailable", "No model is served here at the moment; try again shortly.")
        name = self.default_model if model is None else model
        if name is None:
            raise GatewayError("invalid_request", f"model: choose one of {', '.join(catalogue)}.")
        versions = catalogue.get(name)
        if versions is None:
            raise GatewayError("unknown_model", f"There is no such model here; there is {', '.join(catalogue)}.")
        number = max(versions) if version is None else version
        if number not in versions:
            known = ", ".join(map(str, versions))
            raise GatewayError("unknown_model", f"{name} has no version {number} here; it has {known}.")
        return versions[number]

    def _choose(self, query: LabelQuery, output: str = "scores") -> Choice:
        """Checks the query before the upload, so that a wrong one costs little."""
        return choose(self.find(query.model, query.version), query, output)

    def place(self, request: Request) -> Place:
        """Returns a place for the request. Refuses what it can before the body is read."""
        refuse_repeats(request)
        return self.admission.place(requested_timeout(request, self.settings.request_timeout))

    async def _one(self, request: Request, place: Place, query: LabelQuery, *outputs: str) -> _PhotoRun:
        """Runs the model on the one photo of a request. The last of `outputs` is the one that the query is about."""
        choice = self._choose(query, outputs[-1])
        request.scope["state"].update(model=choice.spec.name, version=choice.spec.version, images=1)
        with Stage("receive", self.metrics.observe_receive):
            data = await self.uploads.photo(request, place)
        deadline = Deadline(place.seconds)

        async def run(spec: TaggerSpec) -> tuple[Photo, Outputs]:
            with Stage("decode", self.metrics.observe_decode):
                photo = await self.decoders.photo(data, spec, deadline)
            return photo, await self._infer(photo.pixels[np.newaxis], spec, outputs, deadline)

        with self.metrics.in_flight(), EndedByHangUp(request):
            if not self.gate.enter_now(1):
                await self._enter(1, deadline)
            with _Work(self, 1):
                choice, (photo, answer) = await self._on_served(request, query, choice, run, outputs[-1])
        if photo.notes:
            _log_notes(request, photo.notes)
        return _PhotoRun(choice, data, photo, answer, deadline)

    async def decoded(self, request: Request, place: Place, spec: TaggerSpec) -> tuple[bytes, Photo, Deadline]:
        """The one photo of a request, as sent and at the model's size, and when the answer is due."""
        request.scope["state"].update(model=spec.name, version=spec.version, images=1)
        with Stage("receive", self.metrics.observe_receive):
            data = await self.uploads.photo(request, place)
        deadline = Deadline(place.seconds)
        with self.metrics.in_flight(), EndedByHangUp(request):
            await self._enter(1, deadline)
            with _Work(self, 1), Stage("decode", self.metrics.observe_decode):
                return data, await self.decoders.photo(data, spec, deadline), deadline

    async def _on_served(
        self,
        request: Request,
        query: LabelQuery,
        choice: Choice,
        run: Callable[[TaggerSpec], Awaitable[T]],
        output: str = "scores",
    ) -> tuple[Choice, T]:
        """Runs a version that the query allows. If it was taken out meanwhile, runs the one that came in its place.

        A Triton that gets a version with other labels unloads the one before: their configurations differ.
        """
        while True:
            try:
                return choice, await run(choice.spec)
            except UnknownModel:
                newer = self._choose(query, output)
                if newer.spec.version == choice.spec.version:
                    raise
                choice = newer
                request.scope["state"].update(version=choice.spec.version)

    async def _enter(self, images: int, deadline: Deadline) -> None:
        """Waits until so many photos may be decoded and run. Raises GatewayError `deadline_exceeded`."""
        if self.gate.enter_now(images):
            return
        try:
            with Stage("wait", self.observe_turn):
                await self.gate.enter(images, deadline.left())
        except asyncio.TimeoutError:
            raise deadline_exceeded() from None

    async def _run_many(self, items: Sequence[Item], spec: TaggerSpec, deadline: Deadline) -> list[PhotoResult]:
        """Decodes one chunk while another is run; a request decodes as many photos at once as there are decoders.

        Two chunks are at work at once, so that a large request leaves places for others.
        """
        size = min(spec.max_batch, _MOST_AT_ONCE)
        turns, chunks_at_work = asyncio.Semaphore(self.decoders.count), asyncio.Semaphore(2)

        async def decoded(item: Item) -> Photo | ImageError | GatewayError:
            if isinstance(item.photo, GatewayError):
                return item.photo
            async with turns:
                try:
                    with Stage("decode", self.metrics.observe_decode):
                        return await self.decoders.photo(item.photo, spec, deadline)
                except ImageError as error:
                    return error

        async def run(chunk: Sequence[Item]) -> list[PhotoResult]:
            async with chunks_at_work:
                await self._enter(len(chunk), deadline)
                with _Work(self, len(chunk)):
                    return await run_at_once(chunk)

        async def run_at_once(chunk: Sequence[Item]) -> list[PhotoResult]:
            results: list[Any] = await _all(map(decoded, chunk))
            good = [place for place, result in enumerate(results) if not isinstance(result, Exception)]
            if good:
                pixels = np.stack([results[place].pixels for place in good])
                scores = (await self._infer(pixels, spec, ["scores"], deadline))["scores"]
                for place, row in zip(good, scores, strict=True):
                    results[place] = ScoredPhoto(row, results[place].notes)
            return results

        chunks = [items[start : start + size] for start in range(0, len(items), size)]
        return [result for results in await _all(map(run, chunks)) for result in results]

    async def _infer(self, pixels: Pixels, spec: TaggerSpec, outputs: Sequence[str], deadline: Deadline) -> Outputs:
        """uint8 [b, h, w, 3] -> the outputs [b, …]."""
        metrics = self.metrics.of(spec)
        with Stage("engine", metrics.observe_engine):
            answer = await self.engine.infer(spec.name, spec.version, pixels, outputs, deadline.left())
        metrics.count_answer(len(pixels), answer.get("scores"))
        return answer


def _log_notes(request: Request, notes: Iterable[str]) -> None:
    """Adds what the decoder noted to the request's line in the log, each sentence once."""
    if sentences := dict.fromkeys(notes):
        request.scope["state"]["notes"] = " ".join(sentences)


async def _all(work: "Iterator[Coroutine[Any, Any, T]]") -> list[T]:
    """Returns the results of all; the first that raises cancels the others."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
