"""`labelwise label-studio`: an HTTP server between Label Studio and a gateway."""

import asyncio
import contextlib
import logging
import signal
import socket
from dataclasses import dataclass
from types import FrameType
from urllib.parse import urlsplit

import uvicorn
from pydantic import TypeAdapter, ValidationError

from labelwise.errors import LabelwiseError
from labelwise.validation import first_refusal
from serving.gateway.access.exposure import is_loopback
from serving.gateway.listener import announce, bind
from serving.label_studio.app import create_app
from serving.label_studio.backend import NO_LESSONS, Backend
from serving.label_studio.gateway import Gateway
from serving.label_studio.lessons import Lessons
from serving.label_studio.studio import LabelStudio
from serving.label_studio.task_photos import TaskPhotos
from serving.settings import FetchHost

logger = logging.getLogger("labelwise.label_studio")

_GRACE = 3  # seconds that requests may take to finish at the end: a lesson takes minutes
_HOST = TypeAdapter(FetchHost)


@dataclass(frozen=True, kw_only=True)
class BridgeOptions:
    """`server`, `model` and `key` are the gateway's; `studio_url` and `studio_key` are Label Studio's.

    `photos_from` are other hosts that photos may be fetched from. `password` is what Label Studio has to send. Raises
    LabelwiseError for options that do not fit together.
    """

    server: str
    model: str | None
    key: str | None
    host: str
    port: int
    studio_url: str | None
    studio_key: str | None
    photos_from: tuple[str, ...]
    password: str | None

    def __post_init__(self) -> None:
        if bool(self.studio_url) != bool(self.studio_key):
            raise LabelwiseError("--label-studio-url and --label-studio-key are needed together.")
        for option, url in (("--server", self.server), ("--label-studio-url", self.studio_url)):
            if url and (urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname):
                raise LabelwiseError(f"{option} is written http://HOST:PORT, not {url!r}.")
        for host in self.photos_from:
            try:
                _HOST.validate_python(host)
            except ValidationError as error:
                raise LabelwiseError(f"--photos-from: {first_refusal(error)}.") from error
        if not self.password and not is_loopback(self.host):
            raise LabelwiseError(
                f"Others can reach {self.host}: give --password, and Label Studio the same one for this backend."
            )


def serve(options: BridgeOptions) -> None:
    """Serves until SIGINT or SIGTERM. Raises LabelwiseError if it cannot listen."""
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)-7s %(name)s  %(message)s", force=True)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    if not options.studio_url:
        logger.warning("%s Until then there are predictions only, for photos of --photos-from.", NO_LESSONS)
    with bind(options.host, options.port) as listener:
        asyncio.run(_serve(options, listener))


async def _serve(options: BridgeOptions, listener: socket.socket) -> None:
    async with contextlib.AsyncExitStack() as opened:
        gateway = Gateway(options.server, options.model, options.key)
        opened.push_async_callback(gateway.close)
        studio = None
        if options.studio_url and options.studio_key:
            studio = LabelStudio(options.studio_url, options.studio_key)
            opened.push_async_callback(studio.close)
        photos = TaskPhotos(studio, options.photos_from)
        backend = Backend(gateway, photos, Lessons(studio, gateway, photos) if studio else None)
        app = create_app(backend, options.password, lambda: announce(listener))
        config = uvicorn.Config(
            app,
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            ws="none",
            timeout_graceful_shutdown=_GRACE,
        )
        await _Server(config).serve([listener])


class _Server(uvicorn.Server):
    """uvicorn that ends by returning: it would raise the signal again."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True
