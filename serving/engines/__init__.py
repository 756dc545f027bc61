"""Engines run a tagger on pixels; the gateway knows no more of them than `Engine`."""

from collections.abc import Callable

from labelwise.repository import Repository
from serving.engines.base import Engine
from serving.settings import Settings


def create_engine(settings: Settings, on_wait: Callable[[float], None] | None = None) -> Engine:
    """The engine that `settings` names, on the repository it names; not started. Raises LabelwiseError.

    `on_wait` is told how many seconds each batch waited for a thread of this process.
    """
    repository = Repository.open(settings.repository)
    # No request is older than its upload and its work may take.
    retire_after = settings.upload_timeout + settings.request_timeout
    interval = settings.reload_interval
    if settings.engine == "embedded":
        from serving.engines.embedded import EmbeddedEngine

        return EmbeddedEngine(
            repository,
            settings.threads,
            settings.session_threads,
            reload_interval=interval,
            retire_after=retire_after,
            on_wait=on_wait,
        )
    from serving.engines.local_triton import LocalTriton
    from serving.engines.triton import TritonEngine

    triton = settings.triton_url or LocalTriton(
        settings.repository,
        grpc_port=settings.triton_grpc_port,
        metrics_port=settings.triton_metrics_port,
        start_timeout=settings.start_timeout,
        reload_interval=interval,
        # Until every gateway of this Triton has noticed, each at its own look.
        retire_after=retire_after + 2 * interval,
        trace_endpoint=settings.trace_endpoint,
    )
    return TritonEngine(
        repository,
        triton,
        max_in_flight=settings.max_requests,
        start_timeout=settings.start_timeout,
        reload_interval=interval,
        load=settings.triton_load,
    )
