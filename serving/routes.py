"""The HTTP API. Routes parse and answer; TaggingService does the work."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel

from labelwise.spec import TaggerSpec
from serving.errors import PROBLEM_TYPE, PROBLEMS, Problem, problem_response
from serving.service import TaggingService
from serving.tagging import TagAnswer, TagQuery
from serving.upload import FORM_FIELD

router = APIRouter()

_PHOTO: dict[str, Any] = {"type": "string", "format": "binary"}
_TAG_BODY = {
    "requestBody": {
        "required": True,
        "description": "One photo: its bytes as the body, or a form with one file.",
        "content": {
            "image/*": {"schema": _PHOTO},
            "multipart/form-data": {
                "schema": {"type": "object", "required": [FORM_FIELD], "properties": {FORM_FIELD: _PHOTO}}
            },
        },
    }
}


class ModelInfo(BaseModel):
    """A model as clients need to know it; `version` is the newest of `versions`, and the rest describes that one."""

    name: str
    version: int
    versions: list[int]
    labels: list[str]
    thresholds: dict[str, float]
    image: dict[str, int]
    max_batch: int
    backbone: str
    metrics: dict[str, float]


class ModelList(BaseModel):
    models: list[ModelInfo]


class Live(BaseModel):
    live: bool = True


class Ready(BaseModel):
    ready: bool = True


def _problems(*codes: str) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's word for the errors a route can answer with, from the one table."""
    described: dict[int | str, dict[str, Any]] = {}
    for code in codes:
        status, title = PROBLEMS[code]
        entry = described.setdefault(status, {"model": Problem, "content": {PROBLEM_TYPE: {}}, "description": ""})
        entry["description"] = " / ".join(filter(None, [entry["description"], f"{title} (`{code}`)"]))
    return described


_TAG_PROBLEMS = _problems(
    *("malformed_body", "unknown_model", "upload_timeout", "body_too_large", "image_too_many_pixels"),
    *("image_format_unsupported", "invalid_request", "image_empty", "image_broken", "image_too_small", "overloaded"),
    *("internal", "engine_failed", "engine_unavailable", "deadline_exceeded"),
)


def _service(request: Request) -> TaggingService:
    service: TaggingService = request.app.state.service
    return service


@router.post(
    "/v1/tag",
    tags=["tagging"],
    summary="Tag one photo",
    openapi_extra=_TAG_BODY,
    responses=_TAG_PROBLEMS,
    response_model_exclude_none=True,
)
async def tag(request: Request, query: Annotated[TagQuery, Query()]) -> TagAnswer:
    """The labels whose score reaches their threshold, highest score first."""
    return await _service(request).tag(request, query)


@router.get("/v1/models", tags=["models"], summary="What is served here")
async def models(request: Request) -> ModelList:
    catalogue = _service(request).engine.catalogue
    return ModelList(models=[_describe(versions) for versions in catalogue.values()])


@router.get("/v1/models/{name}", tags=["models"], summary="One model", responses=_problems("unknown_model"))
async def model(request: Request, name: str) -> ModelInfo:
    service = _service(request)
    return _describe(service.engine.catalogue[service.find(name, None).name])


@router.get(
    "/v1/models/{name}/contract",
    tags=["models"],
    summary="The newest version's tagger.json, for clients that are programs",
    responses=_problems("unknown_model"),
)
async def contract(request: Request, name: str) -> TaggerSpec:
    return _service(request).find(name, None)


@router.get("/v2/health/live", tags=["health"], summary="The gateway runs")
async def live() -> Live:
    return Live()


@router.get(
    "/v2/health/ready",
    tags=["health"],
    summary="Photos would be tagged now",
    response_model=Ready,
    responses=_problems("engine_unavailable"),
)
async def ready(request: Request) -> Ready | Response:
    if await _service(request).engine.is_ready():
        return Ready()
    return problem_response(request, "engine_unavailable", "The engine is down or starting; try again shortly.")


@router.get("/metrics", tags=["health"], summary="Prometheus metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    return Response(generate_latest(_service(request).metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _describe(versions: Any) -> ModelInfo:
    spec: TaggerSpec = versions[max(versions)]
    return ModelInfo(
        name=spec.name,
        version=spec.version,
        versions=sorted(versions),
        labels=list(spec.labels),
        thresholds=dict(zip(spec.labels, spec.thresholds, strict=True)),
        image={"height": spec.image.height, "width": spec.image.width},
        max_batch=spec.max_batch,
        backbone=spec.backbone,
        metrics=spec.metrics,
    )
