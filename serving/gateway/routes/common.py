"""What the routes share: the service, and the form of an answer that the client prefers."""

import re

from fastapi import Request

from serving.gateway.routes.api_route import JSON_TYPE
from serving.gateway.service import TaggingService

_QUALITY = re.compile(r"0(\.\d{0,3})?|1(\.0{0,3})?", re.ASCII)


def service_of(request: Request) -> TaggingService:
    service: TaggingService = request.app.state.service
    return service


def accepts(request: Request, kind: str) -> bool:
    """Whether the client prefers `kind` to JSON, by its Accept header (RFC 9110, section 12.5.1)."""
    return _quality(request, kind) > _quality(request, JSON_TYPE)


def _quality(request: Request, kind: str) -> float:
    """The quality, from 0 to 1, that the most specific range for `kind` in the Accept header gives it."""
    ranges = {kind: 3, f"{kind.partition('/')[0]}/*": 2, "*/*": 1}
    best, quality = 0, 0.0
    for part in request.headers.get("accept", "*/*").split(","):
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        if ranges.get(name, 0) > best:
            best = ranges[name]
            given = next((piece[2:] for piece in parameters if piece.startswith("q=")), "1")
            quality = float(given) if _QUALITY.fullmatch(given) else 1.0
    return quality
