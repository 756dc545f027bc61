"""Engines run a tagger on pixels. The gateway knows them only as `Engine`."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from labelwise.devices.choice import CPU, choose_device
from labelwise.precision import AUTO
from labelwise.repository import Repository, VersionKey
from serving.inference import Engine
from serving.precision import Chooser
from serving.settings import Settings

logger = logging.getLogger("labelwise.engine")

if TYPE_CHECKING:
    from serving.local_triton.server import BorrowedTriton, LocalTriton


def create_engine(
    settings: Settings,
    on_wait: Callable[[float], None] | None = None,
    on_run: Callable[[VersionKey, int], None] | None = None,
    borrowed: "BorrowedTriton | None" = None,
    only: str | None = None,
) -> Engine:
    """Returns the engine that `settings` names, on the repository it names, not started. Raises LabelwiseError.

    `on_wait` gets the seconds that each request waited for a thread of this process, `on_run` a version's key and the
    photos of each run. Both may be called on any thread. With `borrowed`, the engine does not start a Triton. With
    `only`, it serves no other tagger.
    """
    repository = Repository.open(settings.repository, skip_broken=True, only=only)
    if settings.engine == "embedded":
        from serving.engines.embedded import EmbeddedEngine

        device = choose_device(settings.device)
        logger.info("models run on %s: %s", device, device.reason)
        return EmbeddedEngine(
            repository,
            settings.threads,
            settings.session_threads,
            chooser=Chooser(settings.precision, settings.max_loss, settings.session_threads, device),
            device=device,
            reload_interval=settings.reload_interval,
            retire_after=_oldest_request(settings),
            on_wait=on_wait,
            on_run=on_run,
        )
    from serving.engines.triton import TritonEngine

    return TritonEngine(
        repository,
        borrowed or settings.triton_url or create_local_triton(settings),
        max_in_flight=settings.max_requests,
        start_timeout=settings.start_timeout,
        reload_interval=settings.reload_interval,
        load=settings.triton_load,
        on_run=on_run,
        chooser=_chooser_of_triton(settings),
    )


def create_local_triton(settings: Settings) -> "LocalTriton":
    """Returns the Triton that serves the repository on this machine, not started."""
    from serving.local_triton.server import LocalTriton

    return LocalTriton(
        settings.repository,
        grpc_port=settings.triton_grpc_port,
        metrics_port=settings.triton_metrics_port,
        start_timeout=settings.start_timeout,
        reload_interval=settings.reload_interval,
        # Until every gateway of this Triton has looked at the repository again.
        retire_after=_oldest_request(settings) + 2 * settings.reload_interval,
        trace_endpoint=settings.trace_endpoint,
        chooser=_chooser_of_triton(settings),
    )


def _chooser_of_triton(settings: Settings) -> Chooser | None:
    """Chooses for a Triton that this gateway starts; None leaves the graph to Triton's configuration."""
    from serving.local_triton.install import find_triton

    if settings.triton_url or (settings.precision == AUTO and find_triton().has_onnxruntime):
        return None  # it may run on a GPU, where nothing was measured
    return Chooser(settings.precision, settings.max_loss, device=CPU)


def _oldest_request(settings: Settings) -> float:
    """No request is older than the time that its upload and its work may take."""
    return settings.upload_timeout + settings.request_timeout
