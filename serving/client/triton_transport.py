"""The transport to Triton: pixels to NAME_model, or encoded photos to the ensemble NAME."""

import functools
import os
from collections.abc import Sequence

from labelwise.spec import TaggerSpec
from serving.client.servers import Servers
from serving.errors import ClientError
from serving.inference import Outputs, Pixels
from serving.triton.link import TritonLink


@functools.cache
def _process_of_grpc() -> int:
    """The process that uses gRPC: in a fork of it, gRPC crashes."""
    return os.getpid()


class TritonTransport(Servers[TritonLink]):
    """See Transport. `urls` are grpc://host:port of Tritons that serve the same version of `model`."""

    takes_pixels = True

    def __init__(self, urls: Sequence[str], model: str, *, connect_timeout: float, shared_memory: bool = True) -> None:
        super().__init__(urls, connect_timeout)
        self._model, self._shares_memory = model, shared_memory

    def link_to(self, url: str) -> TritonLink:
        if _process_of_grpc() != os.getpid():
            raise ClientError(
                "This process was forked from one that uses gRPC, which does not survive that: start processes by "
                "'spawn', or make the first client after the fork."
            )
        return TritonLink(url, self._shares_memory)

    async def contract_at(self, link: TritonLink, version: int | None, timeout: float) -> TaggerSpec:
        return await link.contract(self._model, timeout)

    async def infer(self, pixels: Pixels, outputs: Sequence[str], timeout: float) -> Outputs:
        spec, name = self.spec, self._model
        return await self.call(lambda link, within: link.infer(name, spec, pixels, outputs, within), timeout)

    async def infer_encoded(self, photos: Sequence[bytes], outputs: Sequence[str], timeout: float) -> Outputs:
        spec, name = self.spec, self._model
        return await self.call(lambda link, within: link.infer_encoded(name, spec, photos, outputs, within), timeout)
