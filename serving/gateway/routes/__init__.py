"""The HTTP API, a file a noun. Routes parse and answer; TaggingService does the work."""

from fastapi import APIRouter

from serving.gateway.routes import embed, explain, health, models, tag

router = APIRouter()
for part in (tag, explain, embed, models, health):
    router.include_router(part.router)
