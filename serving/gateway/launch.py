"""`labelwise serve`: binds the port first, then serves in this process or in several of them."""

import asyncio
import contextlib
import logging
import os
import signal

from serving.gateway.access.exposure import check_exposure
from serving.gateway.lessons.preflight import require_lessons
from serving.gateway.listener import announce, bind
from serving.gateway.observe.logs import configure_logging
from serving.processes import importing
from serving.settings import Settings, unknown_variables

logger = logging.getLogger("labelwise.gateway")


def serve(settings: Settings) -> None:
    """Serves until SIGINT, SIGTERM or SIGHUP. Raises LabelwiseError if it cannot start."""
    check_exposure(settings)
    require_lessons(settings)
    _end_well_at_hang_up()
    configure_logging(settings)
    for name in unknown_variables():
        logger.warning("the environment variable %s matches no setting of the gateway and is ignored", name)
    with bind(settings.host, settings.port) as listener, contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
        if settings.workers > 1:
            from serving.gateway.supervisor import supervise  # without the gateway, which takes long to import

            asyncio.run(supervise(settings, listener, lambda: announce(listener)))
        else:
            with importing():
                from serving.gateway.worker import serve_alone

            serve_alone(settings, listener, lambda: announce(listener))


def _end_well_at_hang_up() -> None:
    """A closed terminal ends the gateway as SIGTERM does, unless nohup told it to ignore SIGHUP."""
    if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
        signal.signal(signal.SIGHUP, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
