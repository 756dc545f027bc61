"""For probes and for Prometheus."""

from typing import Any

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel

from serving.gateway.problems import problem_response
from serving.gateway.routes.common import done, problems, service_of

router = APIRouter(tags=["health"])


_METRICS: dict[int | str, dict[str, Any]] = {
    200: {"description": "Done", "content": {"text/plain": {"example": 'labelwise_images_total{model="scenes"} 1.0\n'}}}
}


class Live(BaseModel):
    live: bool = True


class Ready(BaseModel):
    ready: bool = True


@router.get("/v2/health/live", summary="The gateway runs", responses=done(Live()))
async def live() -> Live:
    return Live()


@router.get(
    "/v2/health/ready",
    summary="Photos would be tagged now",
    response_model=Ready,
    responses=done(Ready()) | problems("engine_unavailable"),
)
async def ready(request: Request) -> Ready | Response:
    if await service_of(request).engine.is_ready():
        return Ready()
    return problem_response(request, "engine_unavailable", "The engine is down or starting; try again shortly.")


@router.get("/metrics", summary="Prometheus metrics", response_class=Response, responses=_METRICS)
async def metrics(request: Request) -> Response:
    return Response(service_of(request).metrics.exposition(), media_type=CONTENT_TYPE_LATEST)
