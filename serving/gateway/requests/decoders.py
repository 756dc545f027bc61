"""Decodes off the event loop, within a limit on decoded pixels and on time."""

import asyncio
import functools
import logging
from collections.abc import Callable
from typing import Any, TypeVar

from PIL import Image

from labelwise.image import Hold, ImageError, ImageTooComplexError, Photo, load_photo, open_small, ordinary
from labelwise.spec import TaggerSpec
from serving.decoding.decoder_process import DecoderEnded
from serving.decoding.pixel_budget import PixelBudget
from serving.decoding.pool import DecoderPool, PoolAnswer
from serving.gateway.requests.deadline import Deadline, deadline_exceeded
from serving.workers import Workers

logger = logging.getLogger("labelwise.decoder")

T = TypeVar("T")


class DecoderFailedError(ImageError):
    """The photo ended the process that decoded it."""

    code = "decoder_failed"


class Decoders:
    """`count` threads for ordinary photos of at most `max_pixels`, and as many processes for all others.

    A thread is cheapest, but its work cannot be ended. So threads get only files whose structure shows that they take
    little time. Admission limits how many photos wait. `load` loads ordinary photos as `load_photo` does.
    """

    def __init__(
        self,
        count: int,
        max_pixels: int,
        max_decoding_pixels: int,
        on_wait: Callable[[float], None] | None = None,
        load: Callable[..., Photo] = load_photo,
    ) -> None:
        self.count, self._load = count, load
        self._max_pixels = max_pixels
        self._budget = PixelBudget(max_decoding_pixels)
        self._threads = Workers(count, "decode", on_wait)
        self._processes = DecoderPool(count, self._budget, on_wait)

    async def start(self) -> None:
        """Starts the first process, which takes a moment. Raises LabelwiseError if that fails.

        Without this, the first photo that needs a process starts it.
        """
        if not self._processes.processes:  # otherwise a photo came before
            self._processes.launch()
        await self._processes.started()

    async def close(self) -> None:
        await self._processes.close()
        await self._threads.close()

    async def run(self, work: Callable[[], T], deadline: Deadline) -> T:
        """Does `work` on a thread. It does not begin after the deadline, or after the caller was cancelled."""
        try:
            return await self._threads.run(work, deadline.left())
        except asyncio.TimeoutError:
            raise deadline_exceeded() from None

    async def photo(self, data: bytes, spec: TaggerSpec, deadline: Deadline) -> Photo:
        """Returns the photo at the model's size. Raises ImageError, or GatewayError `deadline_exceeded`."""
        image = spec.image
        asked: dict[str, Any] = {
            "height": image.height,
            "width": image.width,
            "resize": image.resize,
            "interpolation": image.interpolation,
            "max_pixels": self._max_pixels,
        }
        if structure := ordinary(data):
            hold = self._hold(deadline)
            return await self.run(
                functools.partial(self._load, data, **asked, hold=hold, structure=structure), deadline
            )
        said, pixels = await self._processed("photo", data, asked, deadline)
        facts: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in said.items()}
        return Photo(pixels=pixels, **facts)

    async def small(self, data: bytes, side: int, deadline: Deadline, draw: Callable[[Image.Image], T]) -> T:
        """Returns what `draw` makes, on a thread, of the photo with no side above `side`. Raises as `photo` does."""
        asked = {"side": side, "max_pixels": self._max_pixels}
        if structure := ordinary(data):
            hold = self._hold(deadline)
            return await self.run(lambda: draw(open_small(data, **asked, hold=hold, structure=structure)), deadline)
        _, pixels = await self._processed("small", data, asked, deadline)
        return await self.run(lambda: draw(Image.fromarray(pixels)), deadline)

    def _hold(self, deadline: Deadline) -> Hold:
        return functools.partial(self._budget.hold, within=deadline.left())

    async def _processed(self, task: str, data: bytes, asked: dict[str, Any], deadline: Deadline) -> PoolAnswer:
        try:
            return await self._processes.run(task, data, asked, deadline.left())
        except asyncio.TimeoutError:
            raise deadline_exceeded() from None
        except DecoderEnded as error:
            if error.is_out_of_time:
                logger.warning("a photo of %d bytes took too much processor time and ended its decoder", len(data))
                raise ImageTooComplexError(
                    "The image takes far longer to decode than its size explains; save it again as a plain JPEG or PNG."
                ) from error
            logger.error("%s during a photo of %d bytes, and is replaced", error, len(data))
            raise DecoderFailedError(
                "The image ended the process that decoded it; try again, or save it in another format."
            ) from error


def loader_of(decode: str) -> Callable[..., Photo]:
    """Returns what loads ordinary photos. Raises LabelwiseError if they are to be decoded on a GPU that does not."""
    if decode == "cpu":
        return load_photo
    from serving.decoding.gpu_photos import open_gpu_photos

    return open_gpu_photos().load_photo
