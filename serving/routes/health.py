"""For probes and for Prometheus."""

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel

from serving.errors import problem_response
from serving.routes.common import problems, service_of

router = APIRouter(tags=["health"])


class Live(BaseModel):
    live: bool = True


class Ready(BaseModel):
    ready: bool = True


@router.get("/v2/health/live", summary="The gateway runs")
async def live() -> Live:
    return Live()


@router.get(
    "/v2/health/ready",
    summary="Photos would be tagged now",
    response_model=Ready,
    responses=problems("engine_unavailable"),
)
async def ready(request: Request) -> Ready | Response:
    if await service_of(request).engine.is_ready():
        return Ready()
    return problem_response(request, "engine_unavailable", "The engine is down or starting; try again shortly.")


@router.get("/metrics", summary="Prometheus metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    return Response(service_of(request).metrics.exposition(), media_type=CONTENT_TYPE_LATEST)
