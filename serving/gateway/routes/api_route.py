"""The API's routes: FastAPI registers and describes them, and a request costs one match, one parse and one call.

FastAPI's own way from the match to the endpoint (injection, exit stacks, exception wrappers, a second validation of the
answer) takes more processor time than everything else that the gateway adds to decoding and inference.
"""

import functools
import inspect
import re
import typing
from collections.abc import Callable
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import SchemaSerializer
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from labelwise.validation import first_refusal
from serving.gateway.problems import GatewayError
from serving.gateway.requests.query import pairs_of, remembered
from serving.gateway.service import TaggingService

JSON_TYPE = "application/json"
_JSON_HEADER = (b"content-type", JSON_TYPE.encode())

_QUALITY = re.compile(r"0(\.\d{0,3})?|1(\.0{0,3})?", re.ASCII)

Endpoint = Callable[..., Any]

_serializers: dict[type[Any], SchemaSerializer] = {}


class ApiRoute(APIRoute):
    """Answers with what `endpoint(request)` returns: a Response, or a model or dataclass, which becomes JSON.

    An endpoint with the parameter `query: Annotated[Model, Query()]` also gets the query string as that model. Nothing
    else is injected: path parameters are in `request.path_params`. What the endpoint raises is left to AnswerErrors.
    """

    def __init__(self, path: str, endpoint: Endpoint, **described: Any) -> None:
        if inspect.signature(endpoint).parameters.keys() - {"request", "query"}:
            raise TypeError(f"{path}: an endpoint takes `request` and `query`, and nothing else is injected here")
        super().__init__(path, endpoint, **described)
        self._call = _with_query(endpoint)
        self.allowed = sorted(self.methods or ())  # at this path; another route may add its own

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.methods and scope["method"] not in self.methods:
            raise HTTPException(405, headers={"Allow": ", ".join(self.allowed)})
        answer = await self._call(Request(scope, receive))
        if isinstance(answer, Response):
            await answer(scope, receive, send)
            return
        # What a Response would send, without the steps that serve other contents.
        body = serializer_of(answer).to_json(answer, exclude_none=self.response_model_exclude_none)
        headers = [(b"content-length", b"%d" % len(body)), _JSON_HEADER]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def serializer_of(answer: Any) -> SchemaSerializer:
    """The serializer of a model or dataclass, without the steps of pydantic's own methods."""
    kind = type(answer)
    found = _serializers.get(kind)
    if found is None:
        found = _serializers[kind] = TypeAdapter(kind).serializer
    return found


def _with_query(endpoint: Endpoint) -> Endpoint:
    """Returns `endpoint` as a function of the request alone."""
    if "query" not in inspect.signature(endpoint).parameters:
        return endpoint
    parse = remembered(functools.partial(_parse, typing.get_type_hints(endpoint)["query"]))

    def call(request: Request) -> Any:
        return endpoint(request, parse(request.scope["query_string"]))

    return call


def _parse(model: type[BaseModel], text: bytes) -> BaseModel:
    """Raises GatewayError `invalid_request`, naming the first wrong parameter."""
    try:
        return model.model_validate(dict(pairs_of(text)))
    except ValidationError as error:
        refusal = first_refusal(error)
        wrong = "there is no such parameter" if refusal.kind == "extra_forbidden" else refusal.reason
        raise GatewayError("invalid_request", f"{refusal.field}: {wrong}.") from None


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
