"""A lesson from its request to its answer: photos to the disk, a process that learns, a version that is served."""

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from fastapi import Request

from labelwise.errors import LabelwiseError
from labelwise.label_names import printable
from labelwise.spec import TaggerSpec
from serving.gateway.access.scopes import require_on
from serving.gateway.answers.teaching import NamedPhoto, TeachAnswer, VersionAnswer, make_teach_answer
from serving.gateway.lessons.child import LessonEnded, Step, run_lesson
from serving.gateway.observe.metrics import Metrics
from serving.gateway.problems import PROBLEMS, GatewayError
from serving.gateway.requests.deadline import Deadline, EndedByHangUp, requested_timeout
from serving.gateway.requests.lesson_form import NO, YES, LessonForm, SentPhoto
from serving.gateway.requests.query import refuse_repeats
from serving.gateway.requests.upload import Uploads, finished_in_thread
from serving.inference import Engine
from serving.settings import Settings
from serving.temporary import TemporaryFolder

logger = logging.getLogger("labelwise.lesson")

Tell = Callable[[Step], Awaitable[None]]

_LOOK = 0.05  # seconds between looks whether a version is served
_BUSY_FOR = 10  # seconds after which a client may ask for its lesson again
_FAILED = "The lesson failed; the log here says why under this request id."


async def tell_nobody(step: Step) -> None:
    pass


class Lessons:
    """Gives lessons one at a time. Those of other workers and programs take turns with them at the repository."""

    def __init__(self, settings: Settings, engine: Engine, uploads: Uploads, metrics: Metrics) -> None:
        self._settings, self._engine, self._uploads, self._metrics = settings, engine, uploads, metrics
        self._is_busy = False

    async def teach(self, request: Request, spec: TaggerSpec, tell: Tell = tell_nobody) -> TeachAnswer:
        """Teaches the label and photos of the form in the body to the newest version of a tagger.

        Answers when the new version is served. `tell` gets each step. Raises GatewayError.
        """
        with self._turn(request, spec) as turn:
            try:
                folder = await finished_in_thread(lambda: TemporaryFolder("lesson"))
            except LabelwiseError as error:
                raise GatewayError("lesson_failed", str(error)) from error
            try:
                form, arguments = await self._receive(request, Path(folder.name), turn.deadline)
                words = _Words(self._settings, folder.name, form.photos)
                result = await self._run(request, spec, arguments, turn, words, tell)
            finally:
                await finished_in_thread(folder.cleanup)
            return make_teach_answer(result, words.named, words.told, request.scope["state"]["request_id"])

    async def undo(self, request: Request, spec: TaggerSpec, argument: str) -> VersionAnswer:
        """Publishes the next version without a label, or as an earlier one was: `argument` is that of the command."""
        with self._turn(request, spec) as turn:
            words = _Words(self._settings, "", ())
            result = await self._run(request, spec, [argument], turn, words, tell_nobody)
            return VersionAnswer(**result, request_id=request.scope["state"]["request_id"])

    @contextlib.contextmanager
    def _turn(self, request: Request, spec: TaggerSpec) -> Iterator["_Turn"]:
        """Counts the lesson. Raises GatewayError `overloaded` during another, `not_teachable` for other taggers."""
        refuse_repeats(request)
        request.scope["state"].update(model=spec.name, version=spec.version)
        if not spec.is_teachable:
            raise GatewayError("not_teachable", self._not_teachable(spec))
        if self._is_busy:
            wait = {"Retry-After": str(_BUSY_FOR)}
            raise GatewayError("overloaded", "A lesson is under way here; try again when it has ended.", wait)
        turn = _Turn(Deadline(requested_timeout(request, self._settings.teach_timeout)))
        self._is_busy, begun, outcome = True, time.perf_counter(), "failed"
        try:
            yield turn
        except GatewayError as error:
            outcome = "refused" if PROBLEMS[error.code][0] < 500 else "failed"
            raise
        finally:
            self._is_busy = False
            self._metrics.lessons.labels("published" if turn.is_published else outcome).inc()
            self._metrics.lesson_seconds.observe(time.perf_counter() - begun)

    async def _receive(self, request: Request, folder: Path, deadline: Deadline) -> tuple[LessonForm, list[str]]:
        """Returns the form, whose photos are in `folder`, and the arguments that it means."""
        try:
            form = await self._uploads.lesson(request, folder, deadline)
            arguments = [f"--label={form.label}", *_lists(folder, form)]
        except OSError as error:
            logger.error("request %s: the photos of a lesson: %s", request.scope["state"]["request_id"], error)
            reason = error.strerror or "not possible"
            raise GatewayError("lesson_failed", f"The photos cannot be kept here meanwhile: {reason}.") from error
        request.scope["state"].update(images=len(form.photos))
        if form.from_feedback:
            require_on(self._settings, "feedback")
            assert self._settings.feedback is not None
            arguments.append(f"--from-feedback={self._settings.feedback.absolute()}")
        return form, arguments

    async def _run(
        self,
        request: Request,
        spec: TaggerSpec,
        arguments: Sequence[str],
        turn: "_Turn",
        words: "_Words",
        tell: Tell,
    ) -> dict[str, Any]:
        """Returns the lesson's result when its version is served here."""
        request_id = request.scope["state"]["request_id"]
        settings = self._settings
        where = [str(settings.repository.absolute()), f"--model={spec.name}", f"--keep={settings.teach_keep}"]
        arguments = [*where, *arguments]
        with self._metrics.in_flight(), EndedByHangUp(request):
            try:
                result = await run_lesson(arguments, turn.deadline, tell, turn.publish)
            except LessonEnded as error:
                logger.warning("request %s: no lesson: %s", request_id, error)
                raise words.refusal(error) from error
            except OSError as error:
                logger.error("request %s: no lesson: %s", request_id, error)
                raise GatewayError("lesson_failed", _FAILED) from error
            await self._until_served(spec.name, result["version"], turn.deadline)
        request.scope["state"].update(version=result["version"])
        return result

    async def _until_served(self, name: str, version: int, deadline: Deadline) -> None:
        end = Deadline(min(deadline.left(), self._settings.start_timeout))
        while max(self._engine.catalogue.get(name, ()), default=0) < version:
            if end.left() <= _LOOK:
                raise GatewayError(
                    "deadline_exceeded", f"Version {version} is published and not served here yet; see /v1/models."
                )
            await asyncio.sleep(_LOOK)

    def _not_teachable(self, spec: TaggerSpec) -> str:
        newest = [versions[max(versions)] for versions in self._engine.catalogue.values()]
        fit = [other.name for other in newest if other.is_teachable]
        others = f"here {', '.join(fit)} can be" if fit else "`labelwise train --preset everyday` makes one that can be"
        return f"{spec.name} cannot be taught, because its labels share weights; {others}."


class _Turn:
    """A lesson under way. Its client may get an error although the version is published."""

    def __init__(self, deadline: Deadline) -> None:
        self.deadline, self.is_published = deadline, False

    def publish(self) -> None:
        self.is_published = True


class _Words:
    """What the client may read: its own names in place of our files, and no path of this machine."""

    def __init__(self, settings: Settings, folder: str, photos: Sequence[SentPhoto]) -> None:
        self._photos = photos
        self._file = re.compile(re.escape(folder) + r"/(\d+)")
        repository = str(settings.repository.absolute())
        self._known = {repository: "the model repository"} | ({folder: "the request"} if folder else {})
        if settings.feedback is not None:
            self._known[str(settings.feedback.absolute())] = "the feedback store"
        self._unwritable = f"Not published: {repository} cannot be written"

    def named(self, file: str) -> NamedPhoto:
        match = self._file.fullmatch(file)
        if match is None:
            return NamedPhoto(photo=self.told(file), index=None)
        return NamedPhoto(photo=self._photos[int(match[1])].name, index=int(match[1]))

    def told(self, sentence: str) -> str:
        if self._photos:
            sentence = self._file.sub(lambda match: printable(self._photos[int(match[1])].name), sentence)
        for path in sorted(self._known, key=len, reverse=True):
            sentence = sentence.replace(path, self._known[path])
        return sentence

    def refusal(self, error: LessonEnded) -> GatewayError:
        if error.kind == "data":
            return GatewayError("lesson_refused", self.told(str(error)))
        if error.kind == "setup":
            return GatewayError("lesson_failed", f"On this server, {error}.")
        is_unwritable = str(error).startswith(self._unwritable)
        return GatewayError("lesson_failed", self.told(str(error)) if is_unwritable else _FAILED)


def _lists(folder: Path, form: LessonForm) -> Iterator[str]:
    """The arguments that name the photos: a list of files for each answer."""
    for answer in (YES, NO):
        numbers = [number for number, photo in enumerate(form.photos) if photo.field == answer]
        if numbers:
            file = folder / f"{answer}.txt"
            file.write_text("".join(f"{number}\n" for number in numbers), "utf-8")
            yield f"--{answer}={file}"
