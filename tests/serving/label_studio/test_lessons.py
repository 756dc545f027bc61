"""Lessons from the annotations of a project: which labels are taught, from which photos, and what fails alone."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from labelwise.repository import Repository
from labelwise.spec import TaggerSpec
from serving.label_studio.errors import ServiceError
from serving.label_studio.lessons import Lessons, Report
from serving.label_studio.studio import LabelStudio
from serving.label_studio.task_photos import TaskPhotos
from tests.conftest import scenes_only
from tests.serving.label_studio.studio_server import LEGACY, PHOTOS, annotated, running_studio, upload

WITH = ["desert-pyramid.jpg", "mountains-path.jpg", "sea-narwhals.jpg"]
WITHOUT = ["coffee-cup.jpg", "sunset-hills.jpg", "trees-forest-stream.jpg"]


class Gateway:
    """Learns everything but the labels of `faults`, and keeps what it was sent."""

    def __init__(self, **faults: Exception) -> None:
        self.spec: TaggerSpec = Repository.open(scenes_only()).taggers["scenes"][1].spec
        self.faults, self.sent = faults, dict[str, tuple[set[bytes], set[bytes]]]()
        self.may_teach, self.forgets = True, False

    @contextlib.asynccontextmanager
    async def tagger(self) -> AsyncIterator[SimpleNamespace]:
        yield SimpleNamespace(spec=self.spec)

    async def require_teaching(self, model: str) -> None:
        assert model == "scenes"
        if not self.may_teach:
            raise ServiceError("This key may not teach.")

    async def teach(self, model: str, label: str, yes: Sequence[Path], no: Sequence[Path]) -> dict[str, Any]:
        if label in self.faults:
            raise self.faults[label]
        yes_photos, no_photos = ({file.read_bytes() for file in files} for files in (yes, no))
        self.sent[label] = yes_photos, no_photos
        if not self.forgets:
            self.spec = self.spec.model_copy(update={"labels": (*self.spec.labels, label)})
        doubtful = [{"photo": no[0].name, "index": len(yes), "given": "no", "score": 0.9}]
        return {"version": 2, "photos_with": len(yes), "photos_without": len(no), "doubtful": doubtful}


def teach(gateway: Gateway, tasks: Sequence[dict[str, Any]], *rounds: bool) -> list[Report]:
    """The reports of lessons, each asked for or not."""

    async def teaching() -> list[Report]:
        with running_studio(*tasks) as (url, _):
            studio = LabelStudio(url, LEGACY)
            lessons = Lessons(studio, gateway, TaskPhotos(studio, ()))  # type: ignore[arg-type]
            reports = [await lessons.teach(1, is_asked_for) for is_asked_for in rounds]
            await studio.close()
            return reports

    return asyncio.run(teaching())


TASKS = [
    *(annotated(photo, ["helmet"]) for photo in WITH),
    *(annotated(photo, ["Sea"] if photo == WITHOUT[1] else []) for photo in WITHOUT),
    annotated("mountains-autumn-trees.jpg", ["helmet"], ["Sea"]),  # in doubt
]


def test_a_label_with_enough_photos_is_taught_once() -> None:
    gateway = Gateway()
    by_itself, asked, again = teach(gateway, TASKS, False, True, True)
    assert (by_itself.taught, again.taught) == ({}, {})  # three photos are few, and the second time nothing is new
    learned = asked.taught["helmet"]
    assert (learned["version"], learned["photos_with"], learned["photos_without"]) == (2, 3, 3)
    [doubtful] = learned["doubtful"]
    assert doubtful == {"photo": doubtful["photo"], "given": "no", "score": 0.9}
    assert doubtful["photo"] in map(upload, WITHOUT)  # and not as the file was called that was sent
    photos = [{(PHOTOS / name).read_bytes() for name in names} for names in (WITH, WITHOUT)]
    assert gateway.sent == {"helmet": tuple(photos)}
    assert asked.waiting == {
        "sea": "1 photos with it and 5 without; a lesson needs 3 of each",
        "sunset": "0 photos with it and 7 without; a lesson needs 3 of each",
    }


def test_a_label_that_was_taken_out_is_taught_again_only_if_asked_for() -> None:
    gateway = Gateway()
    gateway.forgets = True
    asked, by_itself, again = teach(gateway, TASKS, True, False, True)
    assert [[*report.taught] for report in (asked, by_itself, again)] == [["helmet"], [], ["helmet"]]


def test_photos_that_cannot_be_fetched_are_left_out_or_stop_the_label() -> None:
    tasks = [*TASKS, annotated("gone.jpg", ["helmet"]), *(annotated(f"{n}-gone\n.jpg", ["Sea"]) for n in range(3))]
    [report] = teach(Gateway(), tasks, True)
    assert report.taught["helmet"]["photos_with"] == 3
    assert report.failed["sea"].startswith("3 of 4 photos cannot be fetched, such as '/data/upload/1/0a1b2c3d-")
    assert "\n" not in report.failed["sea"]  # it goes to the log
    assert not report.try_again


def test_large_photos_are_fewer_so_that_the_gateway_takes_the_lesson(monkeypatch: pytest.MonkeyPatch) -> None:
    without = sorted((PHOTOS / name).stat().st_size for name in WITHOUT)
    monkeypatch.setattr("serving.label_studio.lessons._NO_BYTES", sum(without) - 1)
    [report] = teach(Gateway(), TASKS, True)
    assert (report.taught["helmet"]["photos_with"], report.taught["helmet"]["photos_without"]) == (3, 2)


def test_a_label_that_fails_does_not_hold_up_the_others_and_is_due_again() -> None:
    tasks = [*TASKS[:3], *(annotated(photo, ["Sea"]) for photo in WITHOUT)]
    first, second = teach(gateway := Gateway(sea=ServiceError("Busy.", is_temporary=True)), tasks, True, True)
    assert [*gateway.sent] == ["helmet"]
    assert (first.failed, first.try_again) == ({"sea": "Busy."}, True)
    assert second.failed == {"sea": "Busy."}
    assert second.taught == {}


def test_no_photo_is_fetched_if_the_gateway_does_not_allow_lessons() -> None:
    gateway = Gateway()
    gateway.may_teach = False
    with pytest.raises(ServiceError, match="may not teach"):
        teach(gateway, TASKS, True)
    assert teach(gateway, TASKS[:2], True)[0].failed == {}  # nothing is due
