"""When lessons begin. The times are short here, and the tests depend only on their order."""

import asyncio

import pytest

from serving.label_studio import schedule
from serving.label_studio.errors import ServiceError
from serving.label_studio.lessons import Report
from serving.label_studio.schedule import Schedule
from tests.polling import until_async


class Lessons:
    """Counts lessons; the next ones end as `ends` say."""

    def __init__(self, *ends: Report | Exception) -> None:
        self.projects: list[int] = []
        self._ends = [*ends]

    async def teach(self, project: int, is_asked_for: bool) -> Report:
        assert not is_asked_for
        self.projects.append(project)
        end = self._ends.pop(0) if self._ends else Report()
        if isinstance(end, Exception):
            raise end
        return end


def test_one_lesson_follows_many_annotations() -> None:
    async def annotate() -> list[int]:
        lessons = Lessons()
        waiting = Schedule(lessons.teach, quiet=0.05)
        for _ in range(20):
            waiting.notice(1)
        waiting.notice(2)
        await until_async(lambda: len(lessons.projects) == 2)
        for _ in range(2):
            waiting.meet(1, "everyday 2")
            waiting.meet(1, "everyday 3")
            await until_async(lambda: len(lessons.projects) == 3)
        await waiting.close()
        return sorted(lessons.projects)

    assert asyncio.run(annotate()) == [1, 1, 2]


def test_people_who_go_on_annotating_do_not_hold_a_lesson_up() -> None:
    async def annotate() -> None:
        lessons = Lessons()
        waiting = Schedule(lessons.teach, quiet=0.1)

        def notice_again() -> list[int]:
            waiting.notice(1)
            return lessons.projects

        await until_async(notice_again)
        await waiting.close()

    asyncio.run(annotate())


@pytest.mark.parametrize(
    ("end", "lessons"),
    [
        (Report(failed={"sea": "busy"}, try_again=True), [1, 1]),
        (ServiceError("down", is_temporary=True), [1, 1]),
        (ServiceError("forbidden"), [1]),
    ],
)
def test_a_lesson_that_may_succeed_later_is_tried_again(
    end: Report | Exception, lessons: list[int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(schedule, "_RETRY", 0.0)

    async def annotate() -> list[int]:
        taught = Lessons(end)
        waiting = Schedule(taught.teach, quiet=0.0)
        waiting.notice(1)
        await until_async(lambda: not waiting._tasks)
        return taught.projects

    assert asyncio.run(annotate()) == lessons
