"""A Triton on this machine that another process started, and stops."""

from collections.abc import Callable


class BorrowedTriton:
    """What an engine needs of it: where it is, and whom to tell that it no longer does its work."""

    def __init__(self, grpc_url: str, restart: Callable[[], None]) -> None:
        self.grpc_url, self.restart = grpc_url, restart

    async def start(self) -> None:
        """It runs already."""

    async def stop(self) -> None:
        """It runs on, for others."""
