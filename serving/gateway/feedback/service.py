"""From a request with a correction to the store: read and decode the photo, compute its features, add the answers."""

import asyncio
import functools
import hashlib
import importlib.util
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

from fastapi import Request
from pydantic import BaseModel, Field

from labelwise.feedback import Correction, Features, FeedbackError, FeedbackStore, StoreFull, TokenReused
from labelwise.spec import TaggerSpec
from serving.gateway.feedback.feature_child import FeatureChild, NoFeatures
from serving.gateway.problems import GatewayError
from serving.gateway.requests.deadline import Deadline, deadline_exceeded
from serving.gateway.requests.head import all_values
from serving.gateway.requests.query import FeedbackQuery, answers_of
from serving.gateway.service import TaggingService
from serving.inference import Pixels
from serving.workers import Workers

logger = logging.getLogger("labelwise.feedback")

T = TypeVar("T")
_TOKEN = b"idempotency-key"
_LONGEST_TOKEN = 255


@dataclass(kw_only=True)
class FeedbackAnswer:
    """What is stored now."""

    photo: Annotated[str, Field(description="The SHA-256 of the photo's bytes, by which the store knows it.")]
    model: str
    version: int
    stored: Annotated[int, Field(description="Answers that were added; the store had the others already.")]
    notes: Annotated[list[str] | None, Field(description="Why the answers can be learned from only in part.")] = None
    request_id: str


class LabelAnswers(BaseModel):
    """By the newest answer about each photo."""

    label: str
    yes: int = Field(description="Photos that have it.")
    no: int = Field(description="Photos that do not.")


class FeedbackCounts(BaseModel):
    """Every label that somebody answered about, sorted by name."""

    labels: list[LabelAnswers]


class FeedbackService:
    """Adds to the store of the settings, and counts what is in it. Raises LabelwiseError if it cannot be used."""

    def __init__(self, tagging: TaggingService, file: Path) -> None:
        self._tagging, self._settings = tagging, tagging.settings
        self._store = FeedbackStore.create(file)
        if importlib.util.find_spec("onnx") is None:
            logger.warning("corrections are kept without features to learn from: pip install 'labelwise[onnx]'")
        self.features = FeatureChild(self._settings.repository)
        self._thread = Workers(1, "feedback")  # SQLite waits for other writers, and for the disk

    async def add(self, request: Request, query: FeedbackQuery) -> FeedbackAnswer:
        """Stores what a client says of the photo in the request's body. Raises GatewayError or ImageError."""
        token = _token(request)
        with self._tagging.place(request) as place:
            spec = self._tagging.find(query.model, None)  # the version that tagged the photo may be gone
            version = query.version or spec.version
            answers = answers_of(spec, query)
            data, photo, deadline = await self._tagging.decoded(request, place, spec)
            sha256 = hashlib.sha256(data).hexdigest()
            features, notes = await self._features_of(spec, sha256, photo.pixels, deadline)
            state = request.scope["state"]
            correction = Correction(
                sha256=sha256,
                answers=answers,
                model=spec.name,
                version=version,
                key=state.get("key_name"),
                token=token,
                content=data if self._settings.feedback_photos else None,
                features=features,
            )
            stored = await self._do(functools.partial(self._store.add, correction), deadline)
        return FeedbackAnswer(
            photo=sha256,
            model=spec.name,
            version=version,
            stored=stored,
            notes=notes or None,
            request_id=state["request_id"],
        )

    async def counts(self) -> FeedbackCounts:
        """Raises GatewayError."""
        counts = await self._do(self._store.counts, Deadline(self._settings.request_timeout))
        return FeedbackCounts(labels=[LabelAnswers(**count._asdict()) for count in counts])

    async def close(self) -> None:
        await self.features.close()
        await self._thread.close()

    async def _features_of(
        self, spec: TaggerSpec, sha256: str, pixels: Pixels, deadline: Deadline
    ) -> tuple[Features | None, list[str]]:
        """The features that the store does not have yet, and notes on why there are none."""
        graph = self.features.graph_of(spec)
        if graph is not None:
            there = await self._do(functools.partial(self._store.features, graph, [sha256]), deadline)
            if there:
                return None, []
        try:
            return await self.features.features(spec, pixels, deadline.left()), []
        except NoFeatures as error:
            use = "" if self._settings.feedback_photos else " Without the photo, nothing can be learned from it."
            return None, [f"Stored without features, because {error}.{use}"]
        except asyncio.TimeoutError:
            raise deadline_exceeded() from None

    async def _do(self, work: Callable[[], T], deadline: Deadline) -> T:
        try:
            return await self._thread.run(work, deadline.left())
        except asyncio.TimeoutError:
            raise deadline_exceeded() from None
        except TokenReused as error:
            raise GatewayError("invalid_request", str(error)) from error
        except StoreFull as error:
            logger.error("%s", error)
            raise GatewayError("store_full", "The server has no room for corrections; nothing was stored.") from error
        except FeedbackError as error:
            logger.error("%s", error)
            raise GatewayError(
                "store_unavailable", "The server cannot store corrections now; its log says why. Try again shortly."
            ) from error


def _token(request: Request) -> str | None:
    """The Idempotency-Key. Raises GatewayError if there are several, or if it is not printable ASCII."""
    given = all_values(request.scope, _TOKEN)
    if not given:
        return None
    token = given[0].decode("latin-1")
    if len(given) > 1 or not (0 < len(token) <= _LONGEST_TOKEN and token.isascii() and token.isprintable()):
        raise GatewayError(
            "invalid_request", f"Idempotency-Key: give it once, with 1 to {_LONGEST_TOKEN} printable ASCII characters."
        )
    return token
