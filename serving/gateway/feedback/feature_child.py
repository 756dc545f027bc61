"""The process that computes features of photos, as the gateway's event loop sees it; teaching/feature_process.py runs.

Features need onnx, which a gateway does not load, and more memory than most gateways should hold. So the process starts
with the first photo, and ends when no photo came for a while.
"""

import asyncio
import contextlib
import importlib.util
import json
import logging
import os
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labelwise.feedback import Features
from labelwise.spec import TaggerSpec
from serving.gateway.problems import GatewayError

logger = logging.getLogger("labelwise.feedback")

_MOST_WAITING = 32  # photos, of less than a megabyte each
_LONGEST = 60.0  # seconds for one photo, with the start and the first look at a model
_IDLE = 120.0  # seconds without a photo, after which the process ends
_CHILD = "import sys; sys.path[:] = {path!r}; from teaching.feature_process import main; main({repository!r})"
_LOST = "they could not be computed; the gateway's log says why"


class NoFeatures(Exception):
    """There are none of this photo. The message, for the client, says why."""


class FeatureChild:
    """At most one process, for one photo at a time. Used on one event loop."""

    def __init__(self, repository: Path, idle: float = _IDLE) -> None:
        self._repository, self._idle = repository, idle
        self._process: asyncio.subprocess.Process | None = None
        self._graphs: dict[str, str] = {}  # what computed features before: the graph's identity, by its weights
        self._turn = asyncio.Lock()
        self._asking: set[asyncio.Task[Features]] = set()
        self._end: asyncio.TimerHandle | None = None

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def graph_of(self, spec: TaggerSpec) -> str | None:
        """What would compute the features; None if that is not known yet."""
        return self._graphs.get(_weights(spec))

    async def features(self, spec: TaggerSpec, pixels: NDArray[np.uint8], within: float) -> Features:
        """What taught labels are fitted to, of a photo [h, w, 3].

        Raises NoFeatures, asyncio.TimeoutError after `within` seconds, or GatewayError if too many photos wait.
        """
        if not spec.is_teachable:
            raise NoFeatures(f"{spec.name} cannot be taught")
        if importlib.util.find_spec("onnx") is None:
            raise NoFeatures("the server lacks the extra 'onnx': pip install 'labelwise[onnx]'")
        if len(self._asking) >= _MOST_WAITING:
            raise GatewayError("overloaded", "More corrections wait than this server takes; try again shortly.")
        # The process answers in order, so an answer is awaited also when its request has ended.
        task = asyncio.create_task(self._in_turn(spec, pixels))
        self._asking.add(task)
        task.add_done_callback(self._asked)
        return await asyncio.wait_for(asyncio.shield(task), within)

    async def close(self) -> None:
        """Ends the process. Callers that wait are cancelled."""
        for task in self._asking:
            task.cancel()
        await asyncio.gather(*self._asking, return_exceptions=True)
        await self._stop()

    def _asked(self, task: "asyncio.Task[Features]") -> None:
        self._asking.discard(task)
        if not task.cancelled():
            task.exception()  # the request may have ended, and would not look at it

    async def _in_turn(self, spec: TaggerSpec, pixels: NDArray[np.uint8]) -> Features:
        async with self._turn:
            if self._end is not None:
                self._end.cancel()
            try:
                return await asyncio.wait_for(self._ask(spec, pixels), _LONGEST)
            except (asyncio.TimeoutError, asyncio.IncompleteReadError, OSError, ValueError) as error:
                logger.error("the process that computes features is ended: %s: %s", type(error).__name__, error)
                await self._stop()
                raise NoFeatures(_LOST) from error
            except asyncio.CancelledError:
                await self._stop()
                raise
            finally:
                self._end = asyncio.get_running_loop().call_later(self._idle, self._close_input)

    async def _ask(self, spec: TaggerSpec, pixels: NDArray[np.uint8]) -> Features:
        weights = _weights(spec)
        asked = {"model": spec.name, "version": spec.version, "weights": weights, "shape": pixels.shape}
        process = await self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(asked).encode() + b"\n" + pixels.tobytes())
        await process.stdin.drain()
        said = json.loads(await process.stdout.readuntil(b"\n"))
        if "fault" in said:
            raise NoFeatures(said["fault"])
        if "log" in said:
            logger.error("no features of a photo for %s: %s", spec.name, said["log"])
            raise NoFeatures(_LOST)
        features, logits = [
            np.frombuffer(await process.stdout.readexactly(4 * said[part]), "<f4") for part in ("features", "logits")
        ]
        self._graphs[weights] = said["graph"]
        return Features(said["graph"], features, logits)

    async def _started(self) -> asyncio.subprocess.Process:
        if self._process is not None and self._process.returncode is None:
            return self._process
        await self._stop()
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            _CHILD.format(path=sys.path, repository=str(self._repository.absolute())),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            start_new_session=True,  # a terminal's signals are for the gateway
        )
        return self._process

    def _close_input(self) -> None:
        """The process ends at the end of its input; the next photo starts another."""
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            process.stdin.close()

    async def _stop(self) -> None:
        if self._end is not None:
            self._end.cancel()
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def _weights(spec: TaggerSpec) -> str:
    """Of the most exact graph, whichever is served."""
    return spec.graphs[0].sha256 if spec.graphs else spec.weights_sha256
