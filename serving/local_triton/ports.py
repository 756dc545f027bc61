"""The ports that Triton is to listen on, seen from outside."""

import asyncio
import contextlib
import socket

from labelwise.errors import LabelwiseError


def require_free(host: str, port: int, use: str) -> None:
    """Raises LabelwiseError if nothing can listen there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # closed connections that linger do not count
        try:
            probe.bind((host, port))
        except OSError as error:
            raise LabelwiseError(f"Triton cannot use {host}:{port} for {use}: {error.strerror}.") from error


async def listens(host: str, port: int) -> bool:
    """Returns whether connections are accepted there."""
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True
