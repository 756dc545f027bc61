"""One lesson: the annotations of a project become labels of the gateway's next versions."""

import asyncio
import hashlib
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

from labelwise.errors import LabelwiseError
from labelwise.label_names import printable, some
from labelwise.spec import TaggerSpec
from serving.errors import PhotoError, ServerTimeout, ServerUnavailable
from serving.label_studio.answers import MOST_NO, MOST_YES, NEEDED, Answers, answers_by_label
from serving.label_studio.errors import ServiceError
from serving.label_studio.gateway import Gateway
from serving.label_studio.labelling import read_questions
from serving.label_studio.predictions import version_of
from serving.label_studio.studio import LabelStudio
from serving.label_studio.task_photos import TaskPhotos
from serving.temporary import TemporaryFolder

logger = logging.getLogger("labelwise.lessons")

_FETCHED_AT_ONCE = 8
_YES_BYTES, _NO_BYTES = 240 * 2**20, 720 * 2**20  # a gateway takes 1024 MiB unless its operator says otherwise


@dataclass
class Report:
    """What came of the answers, by label: what the gateway learned, why it did not, and what still lacks photos."""

    taught: dict[str, dict[str, Any]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    waiting: dict[str, str] = field(default_factory=dict)
    try_again: bool = False
    seconds: float = 0.0  # that it took to collect the annotations


class Lessons:
    """Teaches the gateway from the annotations of Label Studio, one lesson at a time.

    Each lesson begins with all annotations of its project. So none is lost if a webhook is, or if a lesson fails.
    """

    def __init__(self, studio: LabelStudio, gateway: Gateway, photos: TaskPhotos) -> None:
        self._studio, self._gateway, self._photos = studio, gateway, photos
        self._one_at_a_time = asyncio.Lock()
        self._taught: dict[tuple[int, str], Answers] = {}  # by project and label, what was last taught

    async def teach(self, project: int, is_asked_for: bool) -> Report:
        """Teaches the labels whose answers are due. Raises LabelwiseError if no label can be taught now."""
        async with self._one_at_a_time:
            began = time.monotonic()
            config, tasks = await self._studio.config(project), await self._studio.annotated_tasks(project)
            async with self._gateway.tagger() as tagger:
                spec = tagger.spec
            answers = answers_by_label(tasks, read_questions(config), spec.labels)
            report = Report(waiting={label: lacks for label, each in answers.items() if (lacks := _lacks(each))})
            report.seconds = time.monotonic() - began
            due = [label for label, each in answers.items() if self._is_due(project, label, each, spec, is_asked_for)]
            if due:
                await self._gateway.require_teaching(spec.name)
            for label in due:
                await self._teach(project, spec.name, label, answers[label], report)
            await self._name_backend(project)
            return report

    async def _name_backend(self, project: int) -> None:
        """A failure is not worth a lesson."""
        try:
            async with self._gateway.tagger() as tagger:
                spec = tagger.spec
            await self._studio.name_backend(project, spec.name, version_of(spec))
        except LabelwiseError as error:
            logger.warning("project %d: the backend keeps its title: %s", project, error)

    def _is_due(self, project: int, label: str, answers: Answers, spec: TaggerSpec, is_asked_for: bool) -> bool:
        """Also remembers the answers to a label that was taught before this program started.

        A label that the model lacks was never taught, or somebody took it out again: then a lesson has to be asked for.
        """
        earlier = self._taught.get((project, label)) or spec.taught.get(label)
        if is_asked_for and label not in spec.labels:
            earlier = None
        is_due = answers.are_due(earlier, is_asked_for)
        if earlier is not None and not is_due:
            self._taught.setdefault((project, label), answers)
        return is_due

    async def _teach(self, project: int, model: str, label: str, answers: Answers, report: Report) -> None:
        try:
            with TemporaryFolder("lesson") as folder:
                yes = await self._fetch(_some(answers.yes, MOST_YES), f"{folder}/yes", _YES_BYTES)
                no = await self._fetch(_some(answers.no, MOST_NO), f"{folder}/no", _NO_BYTES)
                learned = await self._gateway.teach(model, label, [*yes], [*no])
        except (LabelwiseError, OSError) as error:
            logger.error("project %d: %s was not taught: %s", project, printable(label), error)
            report.failed[label] = str(error)
            report.try_again |= is_temporary(error)
        else:
            self._taught[project, label] = answers
            report.taught[label] = _named(learned, [*yes.values(), *no.values()])
            logger.info("project %d: %s was taught: %s", project, printable(label), _told(learned))

    async def _fetch(self, names: Sequence[str], start: str, most_bytes: int) -> dict[Path, str]:
        """The first photos that have at most `most_bytes` together, by the files that they are in.

        The paths begin with `start`. Raises ServiceError if too few photos can be fetched.
        """
        places = asyncio.Semaphore(_FETCHED_AT_ONCE)

        async def fetch(place: int, name: str) -> Path | str:
            async with places:
                photo = await self._photos.fetch(name)
            if isinstance(photo, PhotoError):
                return f"{printable(name)}: {photo.detail}"
            file = Path(f"{start}-{place}")
            await asyncio.to_thread(file.write_bytes, photo)
            return file

        fetched = await asyncio.gather(*(fetch(place, name) for place, name in enumerate(names)))
        files = {found: name for name, found in zip(names, fetched, strict=True) if isinstance(found, Path)}
        faults = [found for found in fetched if isinstance(found, str)]
        if faults:
            told = f"{len(faults)} of {len(names)} photos cannot be fetched, such as {faults[0]}"
            if len(files) < NEEDED:
                raise ServiceError(told)
            logger.warning("%s", told)
        return _within(files, most_bytes)


def _within(files: dict[Path, str], most_bytes: int) -> dict[Path, str]:
    sizes = accumulate(file.stat().st_size for file in files)
    return {file: name for (file, name), size in zip(files.items(), sizes, strict=True) if size <= most_bytes}


def is_temporary(error: Exception) -> bool:
    """Whether the same lesson may succeed later, without anybody's help."""
    if isinstance(error, ServiceError):
        return error.is_temporary
    return isinstance(error, ServerUnavailable | ServerTimeout)


def _some(names: Sequence[str], most: int) -> list[str]:
    """At most `most` of `names`: any, but in the next lesson the same."""
    return sorted(names, key=lambda name: hashlib.sha1(name.encode(), usedforsecurity=False).digest())[:most]


def _lacks(answers: Answers) -> str:
    yes, no = len(answers.yes), len(answers.no)
    if min(yes, no) >= NEEDED:
        return ""
    return f"{yes} photos with it and {no} without; a lesson needs {NEEDED} of each"


def _named(learned: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """What the gateway learned, with the photos called as Label Studio calls them; `names` are in the order sent."""
    for photo in (*learned.get("doubtful", ()), *learned.get("left_out", ())):
        place = photo.pop("index", None)
        if isinstance(place, int) and 0 <= place < len(names):
            photo["photo"] = names[place]
    return learned


def _told(learned: dict[str, Any]) -> str:
    """In one line what the gateway learned."""
    numbers = ("photos_with", "photos_without", "average_precision", "average_precision_spread")
    if not all(isinstance(learned.get(name), int | float) for name in numbers):
        return "the gateway did not say what it learned"
    yes, no, precision, spread = (learned[name] for name in numbers)
    version = f"{learned.get('model')} {learned.get('version')}"
    doubtful = [f"{photo.get('photo')} ({photo.get('given')})" for photo in learned.get("doubtful", ())]
    again = f"; look again at {some(doubtful)}" if doubtful else ""
    return f"{version}, from {yes} photos with it and {no} without, expected AP {precision:.2f} ± {spread:.2f}{again}"
