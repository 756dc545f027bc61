"""The HTTP API, one file per noun. Routes parse and answer; TaggingService does the work."""

from serving.gateway.routes import feedback, health, models, tagging, teaching

ROUTES = [route for part in (tagging, feedback, models, teaching, health) for route in part.router.routes]
