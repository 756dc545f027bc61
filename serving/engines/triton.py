"""The engine that sends pixels to NVIDIA Triton over gRPC: to running ones, or to one that it starts itself."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence

import numpy as np

from labelwise.errors import LabelwiseError, RepositoryError
from labelwise.repository import Repository, TaggerVersion, VersionKey
from labelwise.spec import TaggerSpec
from serving.engines.triton_server import TritonServer, newest_of, serves_enough, until_ready
from serving.errors import ServerBusy, ServerTimeout, ServerUnavailable, ServingError, UnknownModel
from serving.fleet import Fleet
from serving.hanging import ModelStuck, ServerHangs
from serving.inference import Catalogue, Outputs, Pixels, catalogue_of, require_fitting
from serving.local_triton.server import BorrowedTriton, LocalTriton
from serving.precision import Chooser
from serving.triton.channel import ModelProcessDied, VersionUnloaded
from serving.triton.link import TritonLink
from serving.watching import Look, RepositoryWatch, log_broken, repeat

logger = logging.getLogger("labelwise.engine")

_PROBE_EVERY = 1.0  # seconds
_STUCK_AFTER = 20.0  # seconds in which a model of our own Triton answers no request: more than any batch should take
_DRAIN_WITHIN = 10.0  # seconds, for the requests that run at `close`


class TritonEngine:
    """Serves the taggers of `repository` through Tritons that serve the same repository.

    `triton` is their gRPC addresses, `host:port`, or one LocalTriton that the engine starts and stops, or a borrowed
    one. Tritons that answer take turns; a request that one of them fails to answer goes to the next. At most
    `max_in_flight` requests are under way at once; `start` gives up after `start_timeout` seconds. Every
    `reload_interval` seconds (0: never) the engine takes up the versions that are in the repository and on all Tritons
    that answer. With `load` it also has the Tritons load them. The `chooser` is that of a Triton of our own.
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
        on_run: Callable[[VersionKey, int], None] | None = None,
        chooser: Chooser | None = None,
    ) -> None:
        self._chooser = chooser
        self.reasons: dict[VersionKey, str] = {}
        self.device = "triton"
        found = [version for versions in repository.taggers.values() for version in versions.values()]
        self._known = {version.key: self._spec_of(version) for version in found}
        self._local = triton if isinstance(triton, LocalTriton | BorrowedTriton) else None
        urls = [triton.grpc_url] if isinstance(triton, LocalTriton | BorrowedTriton) else triton
        self._urls = [url.removeprefix("grpc://") for url in urls]
        self._where = ", ".join(self._urls)
        self._fleet: Fleet[TritonServer] = Fleet((), watches_one=True)
        self._max_in_flight = max_in_flight
        self._permits = asyncio.Semaphore(max_in_flight)
        self._start_timeout, self._on_run = start_timeout, on_run
        self._reload_interval, self._load = reload_interval, load
        self._broken = {} if self._local else repository.broken  # a Triton of our own logs this itself
        known = {*repository.keys, *repository.broken}
        self._watch = RepositoryWatch(repository.path, known, silent=self._local is not None)
        self._served: set[VersionKey] = set()
        self._asked: set[tuple[str, VersionKey]] = set()
        self._reloading: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._running = False
        self.catalogue: Catalogue = catalogue_of(self._known)

    def _spec_of(self, version: TaggerVersion) -> TaggerSpec:
        """The contract with the graph that a Triton of our own runs, which chooses the same."""
        if self._chooser is None:
            return version.spec
        with contextlib.suppress(RepositoryError):  # our Triton logs it, and does not serve this version
            version, self.reasons[version.key] = self._chooser.choose(version)
        return version.spec

    async def start(self) -> None:
        """Connects, waits for a Triton, compares its models with tagger.json and warms up. Raises LabelwiseError."""
        try:
            if self._local is not None:
                await self._local.start()
            servers = [TritonServer(TritonLink(url)) for url in self._urls]
            self._fleet = Fleet(servers, watches_one=True)
            await until_ready(servers, self._known, self._local is not None, self._start_timeout)
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
        """Lets running requests finish (at most 10 s), then disconnects and stops a Triton of our own."""
        self._running = False
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        try:
            if self._fleet.servers:
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._nothing_runs(), _DRAIN_WITHIN)
            await self._fleet.close()
            self._fleet = Fleet((), watches_one=True)
        finally:
            if self._local is not None:
                await self._local.stop()

    async def _nothing_runs(self) -> None:
        for _ in range(self._max_in_flight):  # holding every permit means that no request runs
            await self._permits.acquire()

    async def is_ready(self) -> bool:
        """Whether some Triton has the newest version of every model, as far as the last probe and requests tell."""
        newest = newest_of(self._served)
        return self._running and any(
            server.is_good and server.served.issuperset(newest) for server in self._fleet.servers
        )

    async def infer(self, model: str, version: int, pixels: Pixels, outputs: Sequence[str], timeout: float) -> Outputs:
        """Runs uint8 `pixels` [b, h, w, 3] through Triton; returns float32 [b, ...] by output name.

        The `timeout` includes the wait for a free place. Raises a ServingError, or ValueError for pixels that are not
        as the contract says. If this is cancelled, Triton drops the request too.
        """
        spec = self._known.get((model, version))
        if spec is None:
            raise UnknownModel(f"{model} version {version} is not served.")
        require_fitting(pixels, spec)
        if not self._running:
            raise ServerUnavailable("The engine is not running.")
        request = asyncio.create_task(self._request(spec, pixels, outputs, time.monotonic() + timeout))
        try:
            # A task of its own: a cancelled RPC forgets who cancelled it, which anyio's callers have to know.
            await asyncio.wait([request], timeout=timeout)
            if not request.done():
                raise ServerTimeout(f"{self._where} did not answer within {timeout:g} s.")
            answer = request.result()
        finally:
            request.cancel()
        if self._on_run is not None:
            self._on_run((model, version), len(pixels))
        return answer

    async def _request(self, spec: TaggerSpec, pixels: Pixels, outputs: Sequence[str], deadline: float) -> Outputs:
        """Asks one Triton after the other. If one of them no longer has the version, looks again at what there is."""
        key = (spec.name, spec.version)
        is_gone = False

        def learn(server: TritonServer, error: ServingError) -> None:
            nonlocal is_gone
            is_gone = is_gone or isinstance(error, UnknownModel | VersionUnloaded)
            self._learn(server, key, error)

        async with self._permits:
            try:
                return await self._fleet.ask_each(
                    self._candidates(key),
                    lambda server, within: server.infer(spec, pixels, outputs, within),
                    deadline,
                    learn,
                    model=spec.name,
                    patience=float("inf") if self._local is None else _STUCK_AFTER,
                )
            except (ServerUnavailable, UnknownModel) as error:
                failure = error
        if is_gone:
            if self._reloading is not None:
                await asyncio.wait([self._reloading])  # it may have begun before the version was gone
            await self.reload()
            if key not in self._served:
                raise UnknownModel(f"{spec.name} version {spec.version} was taken out.") from failure
        raise failure

    def _candidates(self, key: VersionKey) -> list[TritonServer]:
        """Those that would answer. If none seems to: all that do not hang, as one may be back by now."""
        servers = self._fleet.in_turn()
        good = [server for server in servers if server.would_answer(key)]
        return good or [server for server in servers if not isinstance(server.failure, ServerHangs)]

    def _learn(self, server: TritonServer, key: VersionKey, error: ServingError) -> None:
        """What a failed request says about its server, until it is probed again."""
        if isinstance(error, UnknownModel | VersionUnloaded):
            server.served -= {key}
        elif isinstance(error, ModelStuck):
            server.set_stuck(key[0])
        elif isinstance(error, ServerUnavailable) and not isinstance(error, ServerBusy):
            server.leave_out(error)
        if isinstance(error, ModelStuck | ModelProcessDied) and self._local is not None:
            self._local.restart()

    async def reload(self) -> None:
        """Takes up what the repository and the Tritons have by now. Callers at the same time share one look."""
        if self._reloading is None or self._reloading.done():
            self._reloading = asyncio.create_task(self._reload())
        await asyncio.shield(self._reloading)

    async def _reload(self) -> None:
        look = await asyncio.to_thread(self._watch.look)
        for version in look.new:
            self._known[version.key] = await asyncio.to_thread(self._spec_of, version)
        await self._probe()
        if self._load:
            await self._have_loaded(look)
        await self._settle(look)

    async def _probe(self) -> None:
        await asyncio.gather(*(server.probe(self._known) for server in self._fleet.servers))

    async def _settle(self, look: Look) -> None:
        """Updates the catalogue.

        In: what is in the repository and on every Triton that answers, once it is warm. Out: what is no longer in the
        repository, or on no Triton any more; but never the last version of a name.
        """
        answering = [server.served for server in self._fleet.servers if server.is_good]
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
        """Runs one image through a new version on every Triton, so that no request pays for lazy set-up."""
        spec = self._known[key]
        blank = np.zeros((1, *spec.input.shape), np.uint8)
        try:
            for server in [server for server in self._fleet.servers if server.is_good]:
                call = server.infer(spec, blank, spec.output_names, self._start_timeout)
                await server.pulse.watch(call, self._start_timeout, spec.name)
        except ServerUnavailable:
            return False  # the next look finds out
        except ServingError as error:
            log_broken(key, error)
            del self._known[key]
            return False
        graph = f": {spec.graph.precision}, {self.reasons[key]}" if spec.graph and key in self.reasons else ""
        logger.info("%s version %d is served by the Triton at %s%s", *key, self._where, graph)
        return True

    async def _have_loaded(self, look: Look) -> None:
        """Asks Tritons once for each newest version that they lack, and again if it is published again."""
        new = {version.key for version in look.new}
        self._asked = {(url, key) for url, key in self._asked if key in look.present - new}
        for server in [server for server in self._fleet.servers if server.is_good]:
            for key in newest_of(look.present & self._known.keys()):
                if key in server.served or (server.link.url, key) in self._asked:
                    continue
                self._asked.add((server.link.url, key))
                try:
                    await server.link.load(key[0], self._start_timeout)
                except ServingError as error:
                    logger.error("the Triton at %s did not load %s version %d: %s", server.link.url, *key, error)
        await self._probe()
