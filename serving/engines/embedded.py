"""The embedded engine: ONNX Runtime in this process, reading the same repository as Triton. Needs nothing but pip."""

import asyncio
import functools
import logging
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from labelwise.devices.choice import CPU, Device
from labelwise.errors import RepositoryError
from labelwise.precision import AUTO, MAX_LOSS
from labelwise.repository import Repository, TaggerVersion, VersionKey
from labelwise.spec import TaggerSpec
from serving.bound_runs import BoundRuns
from serving.engines.batching import Batches, Run
from serving.errors import ServerTimeout, ServerUnavailable, UnknownModel
from serving.inference import Catalogue, Outputs, Pixels, catalogue_of, require_fitting
from serving.onnx_session import load_session, run_session
from serving.precision import Chooser
from serving.watching import RepositoryWatch, log_broken, repeat
from serving.workers import Workers, WorkersClosed

logger = logging.getLogger("labelwise.engine")

RUNS_ON_GPU = 2  # at once
BOUND = ("cuda", "tensorrt")  # where ONNX Runtime's own CUDA memory takes the photos
MOST_ON_CPU = 8  # photos: more are not faster, and the last waits for all


class _Loaded(NamedTuple):
    spec: TaggerSpec
    batches: tuple[Batches, ...]  # one for each GPU, or one


class EmbeddedEngine:
    """One ONNX Runtime session per version; `threads` inferences at once, each on `session_threads` cores.

    On GPUs it is one session per version and GPU, and two inferences at once on each: the copy of one batch runs beside
    the computation of the other.

    The `chooser` chooses the graph of each version, by default the fastest. Requests that wait for a thread are run
    together where that is faster. `on_wait` gets the seconds that each waited, `on_run` a version's key and the photos
    of each run.

    It looks at the repository every `reload_interval` seconds (0: never). A version that is taken out leaves the
    catalogue at once, and memory `retire_after` seconds later, when no request is left that began with it.
    """

    def __init__(
        self,
        repository: Repository,
        threads: int,
        session_threads: int = 1,
        *,
        device: Device = CPU,
        chooser: Chooser | None = None,
        reload_interval: float = 0,
        retire_after: float = 60,
        on_wait: Callable[[float], None] | None = None,
        on_run: Callable[[VersionKey, int], None] | None = None,
    ) -> None:
        self._repository = repository
        self._session_threads = session_threads
        self._device, self.device = device, device.name
        self._chooser = chooser or Chooser(AUTO, MAX_LOSS, session_threads, device)
        gpus = range(device.gpus)
        self._workers = [Workers(RUNS_ON_GPU, f"infer-gpu{gpu}") for gpu in gpus] or [Workers(threads, "infer")]
        self._on_wait, self._on_run = on_wait, on_run
        self._reload_interval, self._retire_after = reload_interval, retire_after
        self._watch = RepositoryWatch(repository.path, {*repository.keys, *repository.broken})
        self._watching: asyncio.Task[None] | None = None
        self._loaded: dict[VersionKey, _Loaded] = {}  # also versions that were retired recently
        self._served: set[VersionKey] = set()
        self._closed = False
        self.catalogue: Catalogue = {}
        self.reasons: dict[VersionKey, str] = {}

    async def start(self) -> None:
        """Raises RepositoryError if no version can be loaded. A version that cannot be loaded is logged."""
        failures = []
        for key, reason in self._repository.broken.items():
            log_broken(key, reason)
        for version in [version for versions in self._repository.taggers.values() for version in versions.values()]:
            try:
                await self._take_up(version)
            except RepositoryError as error:
                log_broken(version.key, error)
                failures.append(error)
        if not self._served:
            raise failures[0]
        self._serve(self._served)
        if self._reload_interval:
            self._watching = asyncio.create_task(repeat(self.reload, self._reload_interval))

    async def close(self) -> None:
        self._closed = True
        if self._watching:
            self._watching.cancel()
        for loaded in self._loaded.values():
            for batches in loaded.batches:
                batches.close()
        for workers in self._workers:
            await workers.close()

    async def is_ready(self) -> bool:
        return not self._closed and bool(self.catalogue)

    async def reload(self) -> None:
        """Takes up what was published since the last look, and retires what was taken out. Logs broken versions."""
        look = await asyncio.to_thread(self._watch.look)
        for version in look.new:
            try:
                await self._take_up(version)
            except RepositoryError as error:
                log_broken(version.key, error)
        retired = look.retired(self._served)
        if look.new or retired:
            self._serve(self._served - retired)
        for key in retired:
            logger.info("%s version %d was taken out of the repository", *key)
            asyncio.get_running_loop().call_later(self._retire_after, self._drop, key)

    async def infer(self, model: str, version: int, pixels: Pixels, outputs: Sequence[str], timeout: float) -> Outputs:
        loaded = self._loaded.get((model, version))
        if loaded is None:
            raise UnknownModel(f"{model} version {version} is not loaded.")
        require_fitting(pixels, loaded.spec)
        try:
            batches = loaded.batches[0] if len(loaded.batches) == 1 else min(loaded.batches, key=_images_of)
            return await batches.infer(pixels, outputs, timeout)
        except asyncio.TimeoutError as error:
            raise ServerTimeout(f"{model} did not answer within {timeout:.3g} s.") from error
        except WorkersClosed:
            raise ServerUnavailable("The engine is closed.") from None

    async def _take_up(self, version: TaggerVersion) -> None:
        """Loads a version and warms it up, on a thread that serves no request."""
        version, reason = await asyncio.to_thread(self._chooser.choose, version)
        runs = [await asyncio.to_thread(self._load, version, gpu) for gpu in range(len(self._workers))]
        spec = version.spec
        self.reasons[version.key] = reason
        pairs = zip(runs, self._workers, strict=True)
        self._loaded[version.key] = _Loaded(spec, tuple(self._batches(version.key, spec, *pair) for pair in pairs))
        self._served.add(version.key)
        precision = spec.graph.precision if spec.graph else "its graph"
        logger.info("loaded %s version %d on %s: %s, %s", *version.key, self._device, precision, reason)

    def _load(self, version: TaggerVersion, gpu: int) -> Run:
        session = load_session(version, self._session_threads, self._device, gpu)
        if self._device.name in BOUND:
            return BoundRuns(session, version.spec, gpu)
        return functools.partial(run_session, session, version.spec)

    def _batches(self, key: VersionKey, spec: TaggerSpec, run: Run, workers: Workers) -> Batches:
        # Where the thread itself computes, its processor time says what a run costs whatever else the machine does.
        computes_itself = self._session_threads == 1 and self._device.is_cpu
        most = min(spec.max_batch, MOST_ON_CPU) if computes_itself else spec.max_batch
        return Batches(
            run,
            workers,
            most,
            on_wait=self._on_wait,
            on_run=functools.partial(self._on_run, key) if self._on_run else None,
            clock=time.thread_time if computes_itself else time.perf_counter,
        )

    def _serve(self, keys: set[VersionKey]) -> None:
        self._served = keys
        self.catalogue = catalogue_of({key: self._loaded[key].spec for key in keys})

    def _drop(self, key: VersionKey) -> None:
        if key not in self._served:  # unless it was published again
            self._loaded.pop(key, None)
            self.reasons.pop(key, None)


def _images_of(batches: Batches) -> int:
    return batches.images
