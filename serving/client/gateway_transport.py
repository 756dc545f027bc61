"""The transport to the gateway: encoded photos over HTTP, several in one request if the route takes them."""

import asyncio
import io
from collections.abc import Awaitable, Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from labelwise.spec import TaggerSpec
from serving.arrays import Outputs, Pixels
from serving.client.calls import PhotoOutputs
from serving.client.gateway_link import GatewayLink, Refused
from serving.client.servers import Servers
from serving.errors import PhotoError, PhotosRefused

_AT_ONCE = 16  # requests of one photo; a gateway's default is to accept 64 photos
_Answered = PhotoOutputs | PhotoError
_Ask = Callable[[GatewayLink, bytes, TaggerSpec, float], Awaitable[PhotoOutputs]]


class GatewayTransport(Servers[GatewayLink]):
    """See Transport. `urls` are gateways that serve the same version of `model`, or of their only one."""

    takes_pixels = False

    def __init__(self, urls: Sequence[str], model: str | None, *, key: str | None, connect_timeout: float) -> None:
        super().__init__(urls, connect_timeout)
        self._model, self._key = model, key
        self._singles = asyncio.Semaphore(_AT_ONCE)

    def link_to(self, url: str) -> GatewayLink:
        return GatewayLink(url, self._key)

    async def contract_at(self, link: GatewayLink, version: int | None, timeout: float) -> TaggerSpec:
        return await link.contract(self._model, version, timeout)

    async def infer(self, pixels: Pixels, outputs: Sequence[str], timeout: float) -> Outputs:
        """Sends PNG, which loses nothing. The gateway does not resize a photo of the model's size."""
        return await self.infer_encoded([_as_png(image) for image in pixels], outputs, timeout)

    async def infer_encoded(self, photos: Sequence[bytes], outputs: Sequence[str], timeout: float) -> Outputs:
        self.require_offered(outputs)
        asked = set(outputs) - ({"scores"} if "attention" in outputs else set())  # attention comes with scores
        answers = await asyncio.gather(*(self._asked_for(output, photos, timeout) for output in asked))
        rows = [_merged(parts) for parts in zip(*answers, strict=True)]
        if refused := {place: row for place, row in enumerate(rows) if isinstance(row, PhotoError)}:
            raise PhotosRefused(refused)
        whole = [row for row in rows if not isinstance(row, PhotoError)]
        return {name: np.stack([row[name] for row in whole]) for name in whole[0]}

    async def _asked_for(self, output: str, photos: Sequence[bytes], timeout: float) -> list[_Answered]:
        """Asks the route that answers with that output."""
        if output == "embeddings":
            return await self._singly(GatewayLink.embed, photos, timeout)
        if output == "attention":
            return await self._singly(GatewayLink.explain, photos, timeout)
        return await self._scores(photos, timeout)

    async def _scores(self, photos: Sequence[bytes], timeout: float) -> list[_Answered]:
        """Sends one request, or several if the gateway does not take so much at once."""
        if len(photos) == 1:
            return await self._singly(GatewayLink.tag, photos, timeout)
        spec = self.spec
        try:
            return await self.call(lambda link, within: link.tag_many(photos, spec, within), timeout)
        except Refused:
            middle = len(photos) // 2
            halves = [self._scores(half, timeout) for half in (photos[:middle], photos[middle:])]
            first, second = await asyncio.gather(*halves)
            return first + second

    async def _singly(self, ask: _Ask, photos: Sequence[bytes], timeout: float) -> list[_Answered]:
        """Sends one request per photo."""
        spec = self.spec

        async def one(photo: bytes) -> _Answered:
            try:
                async with self._singles:
                    return await self.call(lambda link, within: ask(link, photo, spec, within), timeout)
            except Refused as refused:
                return refused.error

        return list(await asyncio.gather(*map(one, photos)))


def _merged(parts: Sequence[_Answered]) -> _Answered:
    """Merges what several requests said about one photo."""
    row: dict[str, NDArray[np.float32]] = {}
    for part in parts:
        if isinstance(part, PhotoError):
            return part
        row.update(part)
    return row


def _as_png(image: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
