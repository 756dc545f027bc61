"""A Triton on this machine that another process starts and stops."""

from collections.abc import Callable


class BorrowedTriton:
    """What an engine needs to know: where the Triton is, and whom to tell when it no longer does its work."""

    def __init__(self, grpc_url: str, restart: Callable[[], None]) -> None:
        self.grpc_url, self.restart = grpc_url, restart

    async def start(self) -> None:
        """Does nothing: the Triton runs already."""

    async def stop(self) -> None:
        """Does nothing: the Triton goes on for others."""
