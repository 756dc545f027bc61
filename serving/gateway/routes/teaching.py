"""Teaching by HTTP: lessons, what they taught, versions and the way back. All of it needs the scope `teach`."""

import asyncio
import json
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.types import Message, Receive, Scope, Send

from labelwise.repository import version_folders
from labelwise.spec import TaggerSpec
from serving.gateway.access.scopes import require
from serving.gateway.answers.teaching import (
    TaughtAnswer,
    TeachAnswer,
    VersionAnswer,
    VersionsAnswer,
    make_taught_answer,
)
from serving.gateway.lessons.child import Step
from serving.gateway.lessons.versions import published_versions
from serving.gateway.problems import GatewayError, problem_of
from serving.gateway.routes import examples
from serving.gateway.routes.api_route import ApiRoute, accepts, serializer_of, service_of
from serving.gateway.routes.models import NAME
from serving.gateway.routes.openapi import LESSON, LESSON_PROBLEMS, LINES_TYPE, UNDO_PROBLEMS, done, problems
from serving.gateway.service import TaggingService

_LABEL = {"name": "label", "in": "path", "required": True, "schema": {"type": "string", "title": "Label"}}

router = APIRouter(tags=["teaching"], route_class=ApiRoute)


class TeachQuery(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str | None = Field(None, description="Which model; needed only where there is more than one.")


class RollbackQuery(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    version: int = Field(ge=1, description="The version to go back to.")


def _teacher(request: Request) -> TaggingService:
    """The service, for a request that may teach."""
    service = service_of(request)
    require(request, service.settings, "teach")
    return service


@router.post(
    "/v1/teach",
    summary="Teach a label",
    response_model=TeachAnswer,
    responses=done(examples.TEACH, lines=examples.TEACH_LINES) | LESSON_PROBLEMS,
    openapi_extra=LESSON,
)
async def teach(request: Request, query: Annotated[TeachQuery, Query()]) -> TeachAnswer | Response:
    """Adds a label from photos with it and photos without it, or improves one. Answers when the new version is served,
    which takes seconds to minutes. With `Accept: application/x-ndjson` each step is a line of the answer, and the last
    line is the result or the problem."""
    service = _teacher(request)
    spec = service.find(query.model, None)
    if accepts(request, LINES_TYPE):
        return _Steps(request, service, spec)
    return await service.lessons.teach(request, spec)


class _Steps(Response):
    """A lesson whose steps are lines of the answer. What is wrong before the first is a problem like any other."""

    def __init__(self, request: Request, service: TaggingService, spec: TaggerSpec) -> None:
        self._request, self._service, self._spec = request, service, spec
        self._has_begun = False
        super().__init__(media_type=LINES_TYPE)
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def tell(step: Step) -> None:
            await self._send(send, step)

        try:
            answer = await self._service.lessons.teach(self._request, self._spec, tell)
            last: dict[str, Any] = {"result": serializer_of(answer).to_python(answer, mode="json")}
        except (Exception, asyncio.CancelledError) as error:
            if not self._has_begun:
                raise
            last = {"problem": problem_of(error, scope)[0].model_dump()}
        await self._send(send, last, is_last=True)

    async def _send(self, send: Send, line: Any, is_last: bool = False) -> None:
        if not self._has_begun:
            self._has_begun = True
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        body = json.dumps(line, ensure_ascii=False).encode() + b"\n"
        message: Message = {"type": "http.response.body", "body": body, "more_body": not is_last}
        await send(message)


@router.get(
    "/v1/models/{name}/taught",
    summary="The labels that were taught",
    responses=done(examples.TAUGHT) | problems("forbidden", "unknown_model"),
    openapi_extra=NAME,
)
async def taught(request: Request) -> TaughtAnswer:
    return make_taught_answer(_teacher(request).find(request.path_params["name"], None))


@router.delete(
    "/v1/models/{name}/taught/{label:path}",
    summary="Forget a label that was taught",
    responses=done(examples.UNDONE) | UNDO_PROBLEMS,
    openapi_extra={"parameters": [*NAME["parameters"], _LABEL]},
)
async def forget(request: Request) -> VersionAnswer:
    """Publishes the next version without the label, and answers when it is served."""
    service = _teacher(request)
    spec, label = service.find(request.path_params["name"], None), request.path_params["label"]
    if label not in spec.taught:
        raise GatewayError("not_found", f"{spec.name} was not taught {label!r}.")
    return await service.lessons.undo(request, spec, f"--forget={label}")


@router.get(
    "/v1/models/{name}/versions",
    summary="The versions in the model repository",
    responses=done(examples.VERSIONS) | problems("forbidden", "unknown_model"),
    openapi_extra=NAME,
)
async def versions(request: Request) -> VersionsAnswer:
    """Those that are whole. Not all of them have to be served: a Triton has only the newest if labels differ."""
    service = _teacher(request)
    name = service.find(request.path_params["name"], None).name
    served = service.engine.catalogue.get(name, {}).keys()
    found = await asyncio.to_thread(published_versions, service.settings.repository, name, served)
    return VersionsAnswer(model=name, versions=found)


@router.post(
    "/v1/models/{name}/rollback",
    summary="Go back to an earlier version",
    responses=done(examples.UNDONE) | UNDO_PROBLEMS,
    openapi_extra=NAME,
)
async def rollback(request: Request, query: Annotated[RollbackQuery, Query()]) -> VersionAnswer:
    """Publishes the next version, which answers as the earlier one did. Answers when it is served."""
    service = _teacher(request)
    spec = service.find(request.path_params["name"], None)
    numbers = await asyncio.to_thread(version_folders, service.settings.repository / spec.name)
    if query.version not in numbers:
        there = ", ".join(map(str, numbers))
        raise GatewayError(
            "unknown_model", f"{spec.name} has no version {query.version} to go back to; it has {there}."
        )
    return await service.lessons.undo(request, spec, f"--back-to={query.version}")
