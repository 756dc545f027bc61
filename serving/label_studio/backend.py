"""What the ML backend does with each request of Label Studio, in the words of its protocol."""

import hashlib
import logging
import time
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from labelwise.errors import LabelwiseError
from labelwise.label_names import printable
from serving.client import AsyncTagger, TagResult
from serving.client.async_tagger import in_order
from serving.errors import PhotoError
from serving.label_studio.gateway import Gateway
from serving.label_studio.labelling import read_questions
from serving.label_studio.lessons import Lessons, Report
from serving.label_studio.predictions import Predictor, version_of
from serving.label_studio.schedule import Schedule
from serving.label_studio.task_photos import TaskPhotos

logger = logging.getLogger("labelwise.label_studio")

_SETUP_WITHIN = 2.0  # seconds; Label Studio waits for three
_REMEMBERED = 100_000  # predictions, about 50 MB
_AT_ONCE = 16  # tasks whose photos are fetched and tagged
NO_LESSONS = "Lessons need Label Studio's API: start with --label-studio-url and --label-studio-key."


class SetupBody(BaseModel):
    """`project` is its number, a dot and when it was made; `schema` is the labelling configuration."""

    project: str
    schema_: str

    model_config = {"alias_generator": lambda name: name.rstrip("_")}


class Task(BaseModel):
    id: int | None = None
    data: dict[str, Any]


class PredictBody(BaseModel):
    tasks: list[Task]
    label_config: str


class WebhookProject(BaseModel):
    id: int


class WebhookBody(BaseModel):
    """`project` is missing if the webhook was set up to send no payload."""

    action: str
    project: WebhookProject | None = None


class TrainingFailed(LabelwiseError):
    """A lesson that was asked for did not teach every label; `report` says what it did."""

    def __init__(self, report: Report) -> None:
        super().__init__("; ".join(f"{printable(label)}: {reason}" for label, reason in report.failed.items()))
        self.report = report


class Backend:
    """All methods raise LabelwiseError. `lessons` is None without Label Studio's API.

    Predictions are remembered: Label Studio asks for all selected tasks in one request, and if that takes too long for
    it, it keeps none and asks again.
    """

    def __init__(self, gateway: Gateway, photos: TaskPhotos, lessons: Lessons | None) -> None:
        self._gateway, self._photos, self._lessons = gateway, photos, lessons
        self._remembered: dict[tuple[str, ...], dict[str, Any]] = {}
        self._schedule = Schedule(lessons.teach) if lessons else None

    async def close(self) -> None:
        if self._schedule:
            await self._schedule.close()

    async def setup(self, body: SetupBody) -> dict[str, Any]:
        """Label Studio asks this when the backend is connected, and before each prediction."""
        read_questions(body.schema_)
        version = await self._version()
        number = body.project.partition(".")[0]
        if self._schedule and number.isdecimal():
            self._schedule.meet(int(number), version)
        return {"model_version": version}

    async def versions(self) -> dict[str, Any]:
        return {"versions": [await self._version()]}

    async def predict(self, body: PredictBody) -> dict[str, Any]:
        """A prediction per task; a task without one has an empty list, so that the others keep their places."""
        questions, began = read_questions(body.label_config), time.monotonic()
        keys = list(dict.fromkeys(question.data_key for question in questions))
        async with self._gateway.tagger() as tagger:
            predictor = Predictor(questions, tagger.spec)
            version, config = version_of(tagger.spec), hashlib.sha256(body.label_config.encode()).hexdigest()

            async def answer(_: int, task: Task) -> dict[str, Any] | list[Any]:
                place = (version, config, *(str(task.data.get(key)) for key in keys))
                if place not in self._remembered and predictor.knows_any:
                    self._remember(place, predictor.predict(await self._tagged(tagger, task, keys)))
                return self._remembered.get(place, [])

            results = [result async for result in in_order(body.tasks, answer, _AT_ONCE)]
        count, seconds = sum(map(bool, results)), time.monotonic() - began
        logger.info("predicted %d of %d tasks with %s in %.1f s", count, len(results), version, seconds)
        return {"results": results, "model_version": version}

    async def webhook(self, body: WebhookBody) -> dict[str, Any]:
        if body.project is None:
            return {"status": "ignored", "reason": "Without its payload the webhook does not name the project."}
        if body.action == "START_TRAINING":
            return await self._train(body.project.id)
        if not body.action.startswith("ANNOTATION"):
            return {"status": "ignored"}
        if self._schedule is None:
            return {"status": "ignored", "reason": NO_LESSONS}
        self._schedule.notice(body.project.id)
        return {"status": "noticed"}

    async def _train(self, project: int) -> dict[str, Any]:
        if self._lessons is None:
            raise LabelwiseError(NO_LESSONS)
        report = await self._lessons.teach(project, True)
        if report.failed:
            raise TrainingFailed(report)
        return {"taught": report.taught, "waiting": report.waiting}

    def _remember(self, place: tuple[str, ...], prediction: dict[str, Any] | None) -> None:
        if prediction is not None:
            self._remembered[place] = prediction
            if len(self._remembered) > _REMEMBERED:
                del self._remembered[next(iter(self._remembered))]

    async def _version(self) -> str:
        async with self._gateway.tagger(_SETUP_WITHIN) as tagger:
            return version_of(tagger.spec)

    async def _tagged(self, tagger: AsyncTagger, task: Task, keys: Sequence[str]) -> dict[str, TagResult]:
        """The tags of those photos of the task that could be fetched and tagged, by the field of its data."""
        tagged: dict[str, TagResult] = {}
        for key in keys:
            photo = await self._photos.fetch(task.data.get(key))
            if isinstance(photo, bytes):
                [tagged[key]] = await tagger.tag([photo])
            error = photo if isinstance(photo, PhotoError) else tagged[key].error
            if error:
                tagged.pop(key, None)
                logger.warning("task %s: no prediction: %s", task.id, error.detail)
        return tagged
