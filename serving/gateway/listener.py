"""The socket that the gateway listens on, bound before anything slow is begun."""

import socket

from labelwise.errors import LabelwiseError

BACKLOG = 2048  # connections that the kernel holds until they are accepted


def bind(host: str, port: int) -> socket.socket:
    """A bound socket, before the slow part: a port in use is known at once."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named, for asyncio switches Nagle's algorithm off only where it reads TCP here: with it on, each answer after the
    # first of a connection would wait 40 ms for the client's delayed acknowledgement.
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
