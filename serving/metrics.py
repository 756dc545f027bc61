"""What Prometheus sees, in base units; one registry per app, so that tests and apps do not share counts."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """The gateway's metrics; durations in seconds."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("labelwise_requests", "Answered requests.", ("route", "status"), registry=self.registry)
        self.problems = Counter("labelwise_problems", "Error answers by code.", ("code",), registry=self.registry)
        self.request_seconds = Histogram(
            "labelwise_request_seconds",
            "From the first header to the last byte.",
            ("route",),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.decode_seconds = self._histogram("labelwise_decode_seconds", "Decoding a photo, waiting included.")
        self.engine_seconds = self._histogram("labelwise_engine_seconds", "The engine's answer, waiting included.")
        self.in_flight = Gauge("labelwise_requests_in_flight", "Accepted and not yet answered.", registry=self.registry)
        self.images = Counter("labelwise_images", "Photos tagged.", ("model",), registry=self.registry)

    def _histogram(self, name: str, text: str) -> Histogram:
        return Histogram(name, text, buckets=_BUCKETS, registry=self.registry)
