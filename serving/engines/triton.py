"""The engine that sends pixels to NVIDIA Triton over gRPC: to running ones, or to one that it starts itself."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence

import numpy as np

from labelwise.errors import LabelwiseError
from labelwise.repository import Repository, VersionKey
from labelwise.spec import TaggerSpec
from serving.arrays import Outputs, Pixels
from serving.engines.base import Catalogue, catalogue_of
from serving.engines.triton_start import newest_of, serves_enough, until_ready
from serving.errors import ServerBusy, ServerTimeout, ServerUnavailable, ServingError, UnknownModel
from serving.local_triton.borrowed import BorrowedTriton
from serving.local_triton.server import LocalTriton
from serving.triton.channel import ModelProcessDied, VersionUnloaded
from serving.triton.server import ModelStuck, TritonServer
from serving.watching import Look, RepositoryWatch, log_broken, repeat

logger = logging.getLogger("labelwise.engine")

_PROBE_EVERY = 1.0  # seconds
_PROBE_KEPT_FOR = 0.5  # seconds
_STUCK_AFTER = 20.0  # seconds without any answer of a model of our own Triton: more than any one batch should take
_DRAIN_WITHIN = 10.0  # seconds, for what is running at `close`


class TritonEngine:
    """Serves the taggers of `repository` through Tritons that serve the same repository.

    `triton` names them as `host:port` of their gRPC, or is a LocalTriton for the engine to start and stop, or one that
    is borrowed. Requests go to each in turn, as far as it answers; what fails before an answer came is asked of the
    next. At most `max_in_flight` requests are under way at once; `start` gives up after `start_timeout` seconds. Every
    `reload_interval` seconds (0: never) versions are taken up that are in the repository and on all Tritons that
    answer; with `load` the engine itself asks for them.
    """

    def __init__(
        self,
        repository: Repository,
        triton: Sequence[str] | LocalTriton | BorrowedTriton,
        *,
        max_in_flight: int = 64,
        start_timeout: float = 60.0,
        reload_interval: float = 0,
        load: bool = False,
    ) -> None:
        self._known = {
            version.key: version.spec for versions in repository.taggers.values() for version in versions.values()
        }
        self._local = triton if isinstance(triton, LocalTriton | BorrowedTriton) else None
        urls = [triton.grpc_url] if isinstance(triton, LocalTriton | BorrowedTriton) else triton
        self._servers = [TritonServer(url.removeprefix("grpc://")) for url in urls]
        self._where = ", ".join(server.url for server in self._servers)
        self._turn = 0
        self._max_in_flight = max_in_flight
        self._permits = asyncio.Semaphore(max_in_flight)
        self._start_timeout = start_timeout
        self._reload_interval, self._load = reload_interval, load
        self._broken = {} if self._local else repository.broken  # a Triton of our own has its own say
        known = {*repository.keys, *repository.broken}
        self._watch = RepositoryWatch(repository.path, known, silent=self._local is not None)
        self._served: set[VersionKey] = set()
        self._asked: set[tuple[str, VersionKey]] = set()
        self._reloading: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._running = False
        self._ready, self._ready_until = False, 0.0
        self.catalogue: Catalogue = catalogue_of(self._known)

    async def start(self) -> None:
        """Connect, wait for a Triton, compare its models with tagger.json and warm up. Raises LabelwiseError."""
        try:
            if self._local is not None:
                await self._local.start()
            for server in self._servers:
                server.connect()
            await until_ready(self._servers, self._known, self._local is not None, self._start_timeout)
            for key, reason in self._broken.items():
                log_broken(key, reason)
            await self._settle(Look((), frozenset(self._known)))
            if not serves_enough(self._served, self._known, self._local is not None):
                raise LabelwiseError(f"The Triton at {self._where} does not answer as it should: its log says why.")
        except BaseException:
            await self.close()
            raise
        self._running = True
        self._tasks.append(asyncio.create_task(repeat(self._probe, _PROBE_EVERY)))
        if self._reload_interval:
            self._tasks.append(asyncio.create_task(repeat(self.reload, self._reload_interval)))

    async def close(self) -> None:
        """Let running requests finish (at most 10 s), then disconnect and stop a Triton of our own."""
        self._running = False
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        try:
            if any(server.is_connected for server in self._servers):
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._nothing_runs(), _DRAIN_WITHIN)
            for server in self._servers:
                await server.close()
        finally:
            if self._local is not None:
                await self._local.stop()

    async def _nothing_runs(self) -> None:
        for _ in range(self._max_in_flight):  # whoever holds every permit knows that nobody else does
            await self._permits.acquire()

    async def is_ready(self) -> bool:
        """Whether a Triton would run the newest version of every model now; asked at most twice a second."""
        if time.monotonic() >= self._ready_until:
            answers = await asyncio.gather(
                *(server.is_ready(self._newest()) for server in self._servers), return_exceptions=True
            )
            self._ready = self._running and True in answers
            self._ready_until = time.monotonic() + _PROBE_KEPT_FOR
        return self._ready

    async def infer(self, model: str, version: int, pixels: Pixels, outputs: Sequence[str], timeout: float) -> Outputs:
        """Run uint8 `pixels` [b, h, w, 3] through Triton; returns float32 [b, ...] by output name.

        `timeout` seconds count from the call on, the wait for a free place included. Raises a ServingError, or
        ValueError for pixels that are not what tagger.json says. Where this is cancelled, Triton drops the request too.
        """
        spec = self._known.get((model, version))
        if spec is None:
            raise UnknownModel(f"{model} version {version} is not served.")
        if not 1 <= len(pixels) <= spec.max_batch or pixels.shape[1:] != spec.input.shape or pixels.dtype != np.uint8:
            raise ValueError(f"{model} takes uint8 [1..{spec.max_batch}, {spec.input.shape}], not {pixels.shape}")
        if not self._running:
            raise ServerUnavailable("The engine is not running.")
        request = asyncio.create_task(self._request(spec, pixels, outputs, time.monotonic() + timeout))
        try:
            # A task of its own, because a cancelled RPC forgets who cancelled it, which anyio's callers have to know.
            await asyncio.wait([request], timeout=timeout)
            if not request.done():
                raise ServerTimeout(f"{self._where} did not answer within {timeout:g} s.")
        finally:
            request.cancel()
        if request.cancelled():
            raise ServerUnavailable("The connection was closed meanwhile.")
        return request.result()

    async def _request(self, spec: TaggerSpec, pixels: Pixels, outputs: Sequence[str], deadline: float) -> Outputs:
        """Ask one Triton after the other: a batch may be run twice without harm."""
        key = (spec.name, spec.version)
        failure: ServingError = ServerUnavailable(f"the Triton at {self._where} hangs.")
        async with self._permits:
            candidates = self._candidates(key)
            for place, server in enumerate(candidates):
                left = max(deadline - time.monotonic(), 0.001)
                try:
                    return await server.infer(
                        spec, pixels, outputs, left, self._patience(left, is_last=place == len(candidates) - 1)
                    )
                except (ServerUnavailable, ServerBusy, UnknownModel) as error:
                    failure = error
                    self._learn_from(server, key, error)
        if _is_gone(failure):
            await self.reload()
            if key not in self._served:
                raise UnknownModel(f"{spec.name} version {spec.version} was taken out.") from failure
        raise failure

    def _candidates(self, key: VersionKey) -> list[TritonServer]:
        """In turn, those that would answer. Where none seems to: all that do not hang, as one may be back by now."""
        self._turn = (self._turn + 1) % len(self._servers)
        rotated = [*self._servers[self._turn :], *self._servers[: self._turn]]
        good = [server for server in rotated if server.would_answer(key)]
        return good or [server for server in rotated if not server.is_hung]

    def _patience(self, left: float, is_last: bool) -> float:
        """Seconds after which a model that answers nobody is given up: to ask another Triton, or to restart our own."""
        if not is_last:
            return left / 2
        return float("inf") if self._local is None else _STUCK_AFTER

    def _learn_from(self, server: TritonServer, key: VersionKey, error: ServingError) -> None:
        """What a failed request says of its server, until it is probed again."""
        if _is_gone(error):
            server.served -= {key}
        elif isinstance(error, ServerUnavailable) and not isinstance(error, ServerBusy):
            if not isinstance(error, ModelStuck) and not server.is_hung:
                server.set_unhealthy(str(error))
            if isinstance(error, ModelStuck | ModelProcessDied) and self._local is not None:
                self._local.restart()

    async def reload(self) -> None:
        """Take up what the repository and Triton have by now; whoever asks meanwhile waits for the same."""
        if self._reloading is None or self._reloading.done():
            self._reloading = asyncio.create_task(self._reload())
        await asyncio.shield(self._reloading)

    async def _reload(self) -> None:
        look = await asyncio.to_thread(self._watch.look)
        self._known |= {version.key: version.spec for version in look.new}
        await self._probe()
        if self._load:
            await self._have_loaded(look)
        await self._settle(look)

    async def _probe(self) -> None:
        await asyncio.gather(*(server.probe(self._known) for server in self._servers))

    async def _settle(self, look: Look) -> None:
        """The catalogue: what is in the repository and on every Triton that answers, once warm; out goes what is not
        in the repository or on no Triton any more, though never the last version of a name."""
        answering = [server.served for server in self._servers if server.is_healthy]
        if not answering:
            return
        everywhere, anywhere = frozenset.intersection(*answering), frozenset.union(*answering)
        served = set(self._served)
        for key in sorted((everywhere & look.present & self._known.keys()) - served):
            if await self._is_warm(key):
                served.add(key)
        names = {name for name, _ in served & anywhere}
        served -= {key for key in served - anywhere if key[0] in names} | look.retired(served)
        for key in sorted(self._served - served):
            logger.info("%s version %d is not served any more", *key)
        self._known = {key: spec for key, spec in self._known.items() if key in served | anywhere | look.present}
        self._served, self.catalogue = served, catalogue_of({key: self._known[key] for key in served})

    async def _is_warm(self, key: VersionKey) -> bool:
        """One image through a new version on every Triton, so that nobody's first request pays for lazy set-up."""
        spec = self._known[key]
        blank = np.zeros((1, *spec.input.shape), np.uint8)
        try:
            for server in [server for server in self._servers if server.is_healthy]:
                await server.infer(spec, blank, spec.output_names, self._start_timeout)
        except ServerUnavailable:
            return False  # the next look finds out
        except ServingError as error:
            log_broken(key, error)
            del self._known[key]
            return False
        logger.info("%s version %d is served by the Triton at %s", *key, self._where)
        return True

    async def _have_loaded(self, look: Look) -> None:
        """Ask Tritons once for each newest version that they lack, and again where it was published anew."""
        new = {version.key for version in look.new}
        self._asked = {(url, key) for url, key in self._asked if key in look.present - new}
        for server in [server for server in self._servers if server.is_healthy]:
            for key in newest_of(look.present & self._known.keys()):
                if key in server.served or (server.url, key) in self._asked:
                    continue
                self._asked.add((server.url, key))
                try:
                    await server.load(key[0], self._start_timeout)
                except ServingError as error:
                    logger.error("the Triton at %s did not load %s version %d: %s", server.url, *key, error)
        await self._probe()

    def _newest(self) -> list[VersionKey]:
        return newest_of(self._served)


def _is_gone(error: ServingError) -> bool:
    """Whether Triton has unloaded a version, or is about to."""
    return isinstance(error, UnknownModel | VersionUnloaded)
