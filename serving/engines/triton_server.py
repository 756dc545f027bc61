"""One Triton behind the engine, with what it was last seen to serve; and the wait until one serves enough."""

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np
from tritonclient.utils import np_to_triton_dtype

from labelwise.errors import LabelwiseError
from labelwise.repository import VersionKey
from labelwise.spec import TaggerSpec
from serving.errors import ServerTimeout, ServingError, UnknownModel
from serving.fleet import Server
from serving.hanging import ServerHangs
from serving.inference import Outputs, Pixels
from serving.triton.link import TritonLink

logger = logging.getLogger("labelwise.engine")

_PROBE_TIMEOUT = 1.0  # seconds
_STUCK_FOR = 30.0  # seconds until a stuck model is tried again if another Triton serves it
_NEWEST_WITHIN = 10.0  # seconds, for versions that a Triton may still be loading


class TritonServer(Server[TritonLink]):
    """Is good while it answers probes. Methods raise ServingErrors."""

    def __init__(self, link: TritonLink) -> None:
        super().__init__(link)
        self.served: frozenset[VersionKey] = frozenset()
        self.differences: dict[VersionKey, str] = {}  # what is not as tagger.json says
        self._stuck_until: dict[str, float] = {}  # by tagger
        self._configured: dict[str, list[str]] = {}  # by tagger: the versions when its configuration was read

    def would_answer(self, key: VersionKey) -> bool:
        """As far as is known: it answers, serves that version, and the model is not stuck."""
        return self.is_good and key in self.served and self._stuck_until.get(key[0], 0.0) < time.monotonic()

    def set_stuck(self, name: str) -> None:
        self._stuck_until[name] = time.monotonic() + _STUCK_FOR

    def leave_out(self, failure: ServingError) -> None:
        if self.is_good:
            logger.warning("the Triton at %s is left out: %s", self.link.url, failure)
        super().leave_out(failure)

    def take_back(self) -> None:
        if not self.is_good:
            logger.info("the Triton at %s answers", self.link.url)
        super().take_back()

    async def infer(self, spec: TaggerSpec, pixels: Pixels, outputs: Sequence[str], within: float) -> Outputs:
        answer = await self.link.infer(spec.name, spec, pixels, outputs, within)
        self.served |= {(spec.name, spec.version)}  # it may be back before the next probe
        self.take_back()
        return answer

    async def probe(self, known: Mapping[VersionKey, TaggerSpec]) -> None:
        """Finds out whether it answers, and which of the `known` versions it runs as their contracts say."""
        served: set[VersionKey] = set()
        differences: dict[VersionKey, str] = {}
        try:
            for name in dict.fromkeys(name for name, _ in known):
                found = await self._survey(name, {key: spec for key, spec in known.items() if key[0] == name})
                differences |= {key: difference for key, difference in found.items() if difference}
                served |= {key for key, difference in found.items() if not difference}
        except ServerTimeout as error:
            if not await self.pulse.is_alive():  # one that has too much to do is not dead
                self.leave_out(ServerHangs(f"{self.link.url} hangs: it gives no sign of life."))
            elif not self.is_good:
                self.failure = error
        except ServingError as error:
            self.leave_out(error)
        else:
            self.served, self.differences = frozenset(served), differences
            self.take_back()

    async def _survey(self, name: str, known: Mapping[VersionKey, TaggerSpec]) -> dict[VersionKey, str | None]:
        """For each of the `known` versions of a tagger that it has: what is not as its contract says, if anything.

        Triton has one configuration for all versions of a model. It could not load one that differs from that.
        """
        try:
            metadata = await self.link.metadata(name, _PROBE_TIMEOUT)
            if self._configured.get(name) != list(metadata.versions):
                await self.link.learn_of_cache(name, _PROBE_TIMEOUT)
                self._configured[name] = list(metadata.versions)
        except UnknownModel:
            return {}
        return {key: _difference(metadata, spec) for key, spec in known.items() if str(key[1]) in metadata.versions}


def _difference(metadata: Any, spec: TaggerSpec) -> str | None:
    """What in Triton's description of a model is not as tagger.json says, if anything."""
    found = {tensor.name: (tensor.datatype, list(tensor.shape)) for tensor in (*metadata.inputs, *metadata.outputs)}
    for tensor in (spec.input, *spec.outputs):
        expected = (np_to_triton_dtype(np.dtype(tensor.dtype)), [-1, *tensor.shape])
        if tensor.name not in found:
            return f"it has no {tensor.name}"
        if found[tensor.name] != expected:
            return f"its {tensor.name} is {found[tensor.name]} and not {expected}"
    return None


async def until_ready(
    servers: Sequence[TritonServer], known: Mapping[VersionKey, TaggerSpec], is_own: bool, within: float
) -> None:
    """Waits until one of `servers` has the newest of the `known` versions, or older ones if the newest will not come.

    Raises LabelwiseError if this does not happen `within` seconds, or cannot happen. `is_own`: see `serves_enough`.
    """
    where = ", ".join(server.link.url for server in servers)
    logger.info("waiting for the Triton at %s", where)
    started, newest = time.monotonic(), newest_of(known)
    while True:
        complete = await asyncio.gather(
            *(server.link.is_server_ready(_PROBE_TIMEOUT) for server in servers), return_exceptions=True
        )
        await asyncio.gather(*(server.probe(known) for server in servers))
        healthy = [server for server in servers if server.is_good]
        if any(server.served.issuperset(newest) for server in healthy):
            return
        waited = time.monotonic() - started
        # A ready Triton without a version does not load it by itself. One that failed to load is never ready.
        is_over = all(answer is True for answer in complete) and len(healthy) == len(servers)
        has_enough = any(serves_enough(server.served, known, is_own) for server in healthy)
        if has_enough and (is_over or waited > _NEWEST_WITHIN):
            logger.error("%s Older ones are served.", _what_is_missing(servers, newest))
            return
        if is_over:
            raise LabelwiseError(_what_is_missing(servers, newest))
        if waited > within:
            reason = servers[0].failure or "it is still loading"
            raise LabelwiseError(f"No Triton is ready at {where} after {within:g} s: {reason}")
        await asyncio.sleep(0.1)


def serves_enough(served: AbstractSet[VersionKey], known: Iterable[VersionKey], is_own: bool) -> bool:
    """Whether there is some version of every model; of any model for our own Triton, which gets no broken ones."""
    wanted, there = ({name for name, _ in keys} for keys in (known, served))
    return bool(there) if is_own else wanted <= there


def newest_of(keys: Iterable[VersionKey]) -> list[VersionKey]:
    """The newest version of each name."""
    return list(dict(sorted(keys)).items())


def _what_is_missing(servers: Sequence[TritonServer], newest: Sequence[VersionKey]) -> str:
    for server in servers:
        for name, number in newest:
            if difference := server.differences.get((name, number)):
                return f"The Triton at {server.link.url} serves another {name} version {number}: {difference}."
    where, names = ", ".join(server.link.url for server in servers), ", ".join(name for name, _ in newest)
    return f"The Triton at {where} does not serve the newest version of each of {names}."
