"""The end of a lesson's process: neither a hang nor a hang-up of the client loses what was published."""

import asyncio

import pytest

from serving.gateway.lessons import child
from serving.gateway.requests.deadline import Deadline

pytestmark = pytest.mark.anyio
PATIENCE = 60.0  # seconds


async def test_a_process_that_hangs_after_its_result_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    program = """import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print('{{"step": "publish"}}', '{{"result": {{"version": 2}}}}', sep="\\n", flush=True)
time.sleep(600)"""
    monkeypatch.setattr(child, "_PROGRAM", program)
    monkeypatch.setattr(child, "_ENDS_WITHIN", 0.05)
    published: list[bool] = []

    async def tell(_: child.Step) -> None:
        pass

    lesson = child.run_lesson((), Deadline(PATIENCE), tell, lambda: published.append(True))
    assert await asyncio.wait_for(lesson, PATIENCE) == {"version": 2}
    assert published == [True]


@pytest.mark.parametrize("status", [0, 1])
async def test_a_version_is_published_although_the_client_hangs_up(
    status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = f'import sys; print(\'{{{{"step": "publish"}}}}\', flush=True); sys.exit({status})'
    monkeypatch.setattr(child, "_PROGRAM", program)
    published: list[bool] = []

    async def hang_up(_: child.Step) -> None:
        lesson.cancel()

    lesson = asyncio.create_task(child.run_lesson((), Deadline(PATIENCE), hang_up, lambda: published.append(True)))
    with pytest.raises(asyncio.CancelledError):
        await lesson
    assert published == [True] * (status == 0)
