"""What is served here."""

from collections.abc import Mapping

from fastapi import APIRouter, Request
from pydantic import BaseModel

from labelwise.spec import TaggerSpec
from serving.routes.common import problems, service_of

router = APIRouter(tags=["models"])


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


@router.get("/v1/models", summary="What is served here")
async def models(request: Request) -> ModelList:
    catalogue = service_of(request).engine.catalogue
    return ModelList(models=[_describe(versions) for versions in catalogue.values()])


@router.get("/v1/models/{name}", summary="One model", responses=problems("unknown_model"))
async def model(request: Request, name: str) -> ModelInfo:
    service = service_of(request)
    return _describe(service.engine.catalogue[service.find(name, None).name])


@router.get(
    "/v1/models/{name}/contract",
    summary="The newest version's tagger.json, for clients that are programs",
    responses=problems("unknown_model"),
)
async def contract(request: Request, name: str) -> TaggerSpec:
    return service_of(request).find(name, None)


def _describe(versions: Mapping[int, TaggerSpec]) -> ModelInfo:
    spec = versions[max(versions)]
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
