"""The HTTP API, one file per noun. Routes parse and answer; TaggingService does the work."""

from serving.gateway.routes import embed, explain, health, models, tag

ROUTES = [route for part in (tag, explain, embed, models, health) for route in part.router.routes]
