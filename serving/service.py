"""One photo from bytes to tags: admitted, decoded off the event loop, run by the engine, within a deadline."""

import asyncio
import functools
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from fastapi import Request

from labelwise.image import load_pixels
from labelwise.spec import TaggerSpec
from serving.admission import Admission
from serving.engines.base import Engine, Pixels
from serving.errors import GatewayError
from serving.fetch import Fetcher
from serving.metrics import Metrics
from serving.settings import Settings
from serving.tagging import TagAnswer, TagQuery, make_answer, wanted_labels
from serving.upload import read_photo


class TaggingService:
    """What the routes call; holds the engine, the decoding threads and the places for requests."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self.settings, self.engine = settings, engine
        self.metrics = Metrics()
        self.fetcher = Fetcher.of(settings)
        self.admission = Admission(settings.max_requests)
        self.metrics.in_flight.set_function(lambda: self.admission.taken)
        # As many as cores; what waits for a thread is bounded by the admitted requests.
        self._decoders = ThreadPoolExecutor(settings.threads, thread_name_prefix="decode")

    async def tag(self, request: Request, query: TagQuery) -> TagAnswer:
        """Tag the photo in the request's body. Raises GatewayError, ImageError or EngineError."""
        spec = self.find(query.model, query.version)
        wanted_labels(spec, query)  # before the upload: a wrong query costs nobody anything
        with self.admission.place():
            photo = await read_photo(request, self.settings, self.fetcher)
            deadline = time.monotonic() + self.settings.request_timeout
            pixels = await self._decode(photo, spec, deadline)
            with self.metrics.engine_seconds.time():
                outputs = await self.engine.infer(
                    spec.name, spec.version, pixels[np.newaxis], ["scores"], max(deadline - time.monotonic(), 0.001)
                )
        self.metrics.images.labels(spec.name).inc()
        return make_answer(spec, outputs["scores"][0], query, request.state.request_id)

    def find(self, model: str | None, version: int | None) -> TaggerSpec:
        """The contract of a model, the only one by default, and of a version, the newest by default."""
        catalogue = self.engine.catalogue
        if model is None and len(catalogue) > 1:
            raise GatewayError("invalid_request", f"model: choose one of {', '.join(catalogue)}.")
        name = next(iter(catalogue)) if model is None else model
        versions = catalogue.get(name)
        if versions is None:
            raise GatewayError("unknown_model", f"There is no such model here; there is {', '.join(catalogue)}.")
        number = max(versions) if version is None else version
        if number not in versions:
            known = ", ".join(map(str, versions))
            raise GatewayError("unknown_model", f"{name} has no version {number} here; it has {known}.")
        return versions[number]

    async def _decode(self, photo: bytes, spec: TaggerSpec, deadline: float) -> Pixels:
        """[h, w, 3], on a decoding thread."""
        image = spec.image
        decode = functools.partial(
            load_pixels, photo, image.height, image.width, image.resize, image.interpolation, self.settings.max_pixels
        )
        future = asyncio.get_running_loop().run_in_executor(self._decoders, decode)
        try:
            with self.metrics.decode_seconds.time():
                return await asyncio.wait_for(future, deadline - time.monotonic())
        except asyncio.TimeoutError:
            raise GatewayError("deadline_exceeded", "The photo was not decoded in time; try again shortly.") from None
