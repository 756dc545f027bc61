"""`labelwise serve`: binds the port first, then serves in this process or in several of them."""

import asyncio
import contextlib
import logging
import os
import signal
import socket

from labelwise.errors import LabelwiseError
from serving.gateway.access.exposure import check_exposure
from serving.gateway.observe.logs import configure_logging
from serving.gateway.supervisor import supervise
from serving.gateway.worker import BACKLOG, serve_alone
from serving.settings import Settings, unknown_variables

logger = logging.getLogger("labelwise.gateway")


def serve(settings: Settings) -> None:
    """Serves until SIGINT, SIGTERM or SIGHUP. Raises LabelwiseError if it cannot start."""
    check_exposure(settings)
    _end_well_at_hang_up()
    configure_logging(settings)
    for name in unknown_variables():
        logger.warning("the environment variable %s matches no setting of the gateway and is ignored", name)
    with bind(settings.host, settings.port) as listener, contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
        if settings.workers > 1:
            asyncio.run(supervise(settings, listener, lambda: announce(listener)))
        else:
            serve_alone(settings, listener, lambda: announce(listener))


def _end_well_at_hang_up() -> None:
    """A closed terminal ends the gateway as SIGTERM does, unless nohup told it to ignore SIGHUP."""
    if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
        signal.signal(signal.SIGHUP, lambda *_: os.kill(os.getpid(), signal.SIGTERM))


def bind(host: str, port: int) -> socket.socket:
    """Returns a listening socket. Raises LabelwiseError if the address cannot be had, such as a port in use."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio switches Nagle's algorithm off only for sockets that name TCP as their protocol. With it on, every answer
    # after the first of a connection waits 40 ms for the client's delayed acknowledgement.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)  # Linux lets two sockets bind to one port as long as neither listens
    except OSError as error:
        listener.close()
        reason = (error.strerror or "not possible").lower()
        raise LabelwiseError(
            f"Cannot listen on {host}:{port}: {reason}. Choose another with --port or --host."
        ) from error
    return listener


def url_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{shown}:{port}"


def announce(listener: socket.socket) -> None:
    """Prints the line that scripts wait for: the gateway answers at this URL. A closed output does not end it."""
    with contextlib.suppress(OSError):
        print(f"labelwise is ready: {url_of(listener)}", flush=True)
