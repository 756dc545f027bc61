"""The socket that the gateway listens on, bound before anything else starts, and the line that says it answers."""

import contextlib
import socket

from labelwise.errors import LabelwiseError

BACKLOG = 2048  # connections that the kernel holds until they are accepted


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
