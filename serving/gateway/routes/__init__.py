"""The HTTP API, one file per noun. Routes parse and answer; TaggingService does the work."""

from serving.gateway.routes import health, models, tagging

ROUTES = [route for part in (tagging, models, health) for route in part.router.routes]
