"""What is served here."""

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field

from labelwise.repository import VersionKey
from labelwise.spec import TaggerSpec
from serving.gateway.access.keys import Scope
from serving.gateway.access.scopes import allowed
from serving.gateway.routes import examples
from serving.gateway.routes.api_route import ApiRoute, service_of
from serving.gateway.routes.openapi import done, problems

router = APIRouter(tags=["models"], route_class=ApiRoute)

# Described here, because FastAPI would add a 422 of its own for a path parameter in the signature; none occurs.
NAME = {"parameters": [{"name": "name", "in": "path", "required": True, "schema": {"type": "string", "title": "Name"}}]}


class ContractQuery(BaseModel):
    version: int | None = Field(None, ge=1)


class ModelInfo(BaseModel):
    """What clients need to know about a model. `version` is the newest of `versions`; the rest describes it."""

    name: str
    version: int
    versions: list[int]
    labels: list[str]
    thresholds: dict[str, float]
    image: dict[str, int]
    max_batch: int
    backbone: str
    metrics: dict[str, float]
    precision: str | None = Field(description="Of the graph that runs: fp32, fp16 or int8; null: not known here.")
    precision_reason: str | None = Field(description="Why that graph runs and no other.")
    outputs: list[str] = Field(description="`attention` is for /v1/explain, `embeddings` for /v1/embed.")
    teachable: bool = Field(description="Whether labels can be taught: its labels share no weights.")


class ModelList(BaseModel):
    """The default one first."""

    default: str | None = Field(description="For requests that name no model; null: they have to.")
    may: list[Scope] = Field(description="What this request may do here besides tagging.")
    models: list[ModelInfo]


def _describe(versions: Mapping[int, TaggerSpec], reasons: Mapping[VersionKey, str]) -> ModelInfo:
    spec = versions[max(versions)]
    reason = reasons.get((spec.name, spec.version))
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
        precision=spec.graph.precision if spec.graph and reason else None,
        precision_reason=reason,
        outputs=list(spec.output_names),
        teachable=spec.is_teachable,
    )


_EXAMPLE = _describe({1: examples.CONTRACT}, {("scenes", 1): "its only graph"})


@router.get(
    "/v1/models",
    summary="What is served here",
    responses=done(ModelList(default=_EXAMPLE.name, may=[], models=[_EXAMPLE])),
)
async def models(request: Request) -> ModelList:
    service = service_of(request)
    catalogue, default, reasons = service.engine.catalogue, service.default_model, service.engine.reasons
    names = sorted(catalogue, key=lambda name: name != default)
    may = list(allowed(request, service.settings))
    return ModelList(default=default, may=may, models=[_describe(catalogue[name], reasons) for name in names])


@router.get(
    "/v1/models/{name}",
    summary="One model",
    responses=done(_EXAMPLE) | problems("unknown_model"),
    openapi_extra=NAME,
)
async def model(request: Request) -> ModelInfo:
    service = service_of(request)
    name = service.find(request.path_params["name"], None).name
    return _describe(service.engine.catalogue[name], service.engine.reasons)


@router.get(
    "/v1/models/{name}/contract",
    summary="tagger.json of one version, by default the newest, for clients that are programs",
    responses=done(examples.CONTRACT) | problems("unknown_model", "invalid_request"),
    openapi_extra=NAME,
)
async def contract(request: Request, query: Annotated[ContractQuery, Query()]) -> TaggerSpec:
    return service_of(request).find(request.path_params["name"], query.version)
