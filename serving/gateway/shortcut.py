"""The busiest address, past the framework.

Routing, injection, exit stacks and exception wrappers would cost more processor time than all else that the gateway
adds to decoding and inference (benchmarks/gateway.py). A request that needs none of it goes straight to the endpoint.
Whatever is out of the ordinary, such as a query that is not valid, goes FastAPI's way, which ends at the same endpoint.
"""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl

from fastapi import Request, Response
from pydantic import BaseModel, ValidationError
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.gateway.problems import error_response

_REMEMBERED = 256  # query strings; clients use few, and a longer one than this is not ordinary
_LONGEST = 512


class Shortcut:
    """POST `path` is answered by `endpoint(request, query)`; everything else, by the app.

    `query_model` is the endpoint's; `route` stands for FastAPI's own in the scope, for whoever asks which it was.
    """

    def __init__(
        self, app: ASGIApp, path: str, endpoint: Callable[..., Awaitable[Response]], query_model: type[BaseModel]
    ) -> None:
        self._app, self._endpoint = app, endpoint
        self.path = path
        self._query = functools.lru_cache(_REMEMBERED)(functools.partial(_parse, query_model))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        query = self._query_of(scope)
        if query is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = self
        request = Request(scope, receive)
        try:
            response = await self._endpoint(request, query)
        except (Exception, asyncio.CancelledError) as error:
            response = await error_response(request, error)
        await response(scope, receive, send)

    def _query_of(self, scope: Scope) -> Any:
        if scope["type"] != "http" or scope["path"] != self.path or scope["method"] != "POST":
            return None
        text = scope["query_string"]
        return self._query(text) if len(text) <= _LONGEST else None


def _parse(model: type[BaseModel], text: bytes) -> BaseModel | None:
    """As FastAPI does it; None for what it would refuse, or what it might read differently."""
    pairs = parse_qsl(text.decode("latin-1"), keep_blank_values=True)
    if len(pairs) > len(dict(pairs)):
        return None
    try:
        return model.model_validate(dict(pairs))
    except ValidationError:
        return None
