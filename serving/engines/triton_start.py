"""The start of the Triton engine: waiting for a Triton that serves enough."""

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet

from labelwise.errors import LabelwiseError
from labelwise.repository import VersionKey
from labelwise.spec import TaggerSpec
from serving.engines.triton_server import TritonServer

logger = logging.getLogger("labelwise.engine")

_NEWEST_WITHIN = 10.0  # seconds, for versions that a Triton may still be loading


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
        complete = await asyncio.gather(*(server.is_complete() for server in servers), return_exceptions=True)
        await asyncio.gather(*(server.probe(known) for server in servers))
        healthy = [server for server in servers if server.is_good]
        if any(server.served.issuperset(newest) for server in healthy):
            return
        waited = time.monotonic() - started
        # A Triton that is ready without a version will not get it by itself. One that failed to load it is never ready.
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
