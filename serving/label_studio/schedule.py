"""When lessons begin: once annotating has come to rest, or after a minute of it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from labelwise.errors import LabelwiseError
from serving.label_studio.lessons import Report, is_temporary

logger = logging.getLogger("labelwise.lessons")

_QUIET = 10.0  # seconds without a new annotation
_QUIET_AT_MOST = 6  # times as long, if people go on annotating
_SHARE = 10  # times as long as collecting annotations takes, which keeps Label Studio busy
_RETRY = 60.0  # seconds


class Schedule:
    """Calls `teach` for a project some time after its annotations change. `quiet` is in seconds."""

    def __init__(self, teach: Callable[[int, bool], Awaitable[Report]], quiet: float = _QUIET) -> None:
        self._teach, self._quiet = teach, quiet
        self._slowness: dict[int, float] = {}  # by project, in seconds
        self._due: dict[int, float] = {}  # by project, on the event loop's clock
        self._waiting: set[int] = set()
        self._met: set[tuple[int, str]] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def meet(self, project: int, version: str) -> None:
        """Has the project looked at if it or the model's version is new here: something may have been missed."""
        if (project, version) not in self._met:
            self._met.add((project, version))
            self.notice(project)

    def notice(self, project: int) -> None:
        """Has the project looked at soon, because an annotation came, changed or went."""
        quiet = max(self._quiet, _SHARE * self._slowness.get(project, 0.0))
        self._look(project, quiet, quiet * _QUIET_AT_MOST)

    async def close(self) -> None:
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _look(self, project: int, after: float, at_most: float) -> None:
        now = asyncio.get_running_loop().time()
        self._due[project] = now + after
        if project not in self._waiting:
            self._waiting.add(project)
            task = asyncio.create_task(self._wait(project, now + at_most))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _wait(self, project: int, at_most: float) -> None:
        clock = asyncio.get_running_loop().time
        while (left := min(self._due[project], at_most) - clock()) > 0:  # noqa: ASYNC110 (the time may move)
            await asyncio.sleep(left)
        self._waiting.discard(project)  # what comes from now on needs another look
        try:
            report = await self._teach(project, False)
            try_again, self._slowness[project] = report.try_again, report.seconds
        except (LabelwiseError, OSError) as error:
            logger.error("project %d: no lesson: %s", project, error)
            try_again = is_temporary(error)
        if try_again:
            self._look(project, _RETRY, _RETRY)
