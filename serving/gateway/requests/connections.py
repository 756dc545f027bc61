"""The number of connections, and the options with which uvicorn keeps to the limits."""

import logging
from collections.abc import Callable
from typing import Any

from starlette.types import ASGIApp

from serving.gateway.requests.protocol import LINGERING, ConnectionLimits, LimitedProtocol
from serving.gateway.requests.unread import CloseUnread
from serving.settings import Settings

logger = logging.getLogger("labelwise.gateway")

_OTHER_DESCRIPTORS = 256  # for everything except accepted connections: engine, files, bursts
_ACCEPTED_AT_ONCE = 64  # asyncio accepts up to this many before any is counted


def connection_options(app: ASGIApp, settings: Settings, on_refusal: Callable[[str], None]) -> dict[str, Any]:
    """Returns the options of uvicorn.Config that serve `app` within the limits of `settings`."""
    connections = _fit_to_descriptors(settings.max_connections)
    limits = ConnectionLimits(connections, settings.header_timeout, settings.send_timeout, on_refusal)
    return {
        "app": CloseUnread(app),
        "http": type("GatewayProtocol", (LimitedProtocol,), {"limits": limits}),
        "ws": "none",
        "backlog": _ACCEPTED_AT_ONCE,
        "timeout_keep_alive": settings.keep_alive_timeout,
    }


def _fit_to_descriptors(connections: int) -> int:
    """Asks the system for more descriptors, and returns how many connections they are enough for."""
    try:
        import resource
    except ImportError:
        return connections  # Windows has no such limit
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + LINGERING + _OTHER_DESCRIPTORS
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return connections
    soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    fitting = max(1, min(connections, soft - LINGERING - _OTHER_DESCRIPTORS))
    if fitting < connections:
        logger.warning("%d connections at most, not %d: the limit on open files is %d", fitting, connections, hard)
    return fitting
