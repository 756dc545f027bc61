"""For probes and for Prometheus."""

from typing import Any

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel

from serving.gateway.problems import GatewayError
from serving.gateway.routes.api_route import ApiRoute, service_of
from serving.gateway.routes.openapi import done, problems

router = APIRouter(tags=["health"], route_class=ApiRoute)


_METRICS: dict[int | str, dict[str, Any]] = {
    200: {"description": "Done", "content": {"text/plain": {"example": 'labelwise_images_total{model="scenes"} 1.0\n'}}}
}


class Live(BaseModel):
    live: bool = True


class Ready(BaseModel):
    ready: bool = True


@router.get("/v2/health/live", summary="The gateway runs", responses=done(Live()))
async def live(request: Request) -> Live:
    return Live()


@router.get(
    "/v2/health/ready",
    summary="Photos would be tagged now",
    responses=done(Ready()) | problems("engine_unavailable"),
)
async def ready(request: Request) -> Ready:
    if await service_of(request).engine.is_ready():
        return Ready()
    raise GatewayError("engine_unavailable", "The engine is down or starting; try again shortly.")


@router.get("/metrics", summary="Prometheus metrics", response_class=Response, responses=_METRICS)
async def metrics(request: Request) -> Response:
    service = service_of(request)
    engine = service.engine
    text = service.metrics.exposition(engine.catalogue, engine.reasons, engine.device)
    return Response(text, media_type=CONTENT_TYPE_LATEST)
