"""Fetches the photos that tasks name. The names are not trusted: anyone who may add tasks chooses them."""

import re
from typing import Any
from urllib.parse import quote, unquote, urljoin, urlsplit

from serving.errors import PhotoError
from serving.gateway.problems import GatewayError
from serving.gateway.requests.fetch import Fetcher
from serving.label_studio.errors import ServiceError
from serving.label_studio.studio import LabelStudio

_MAX_BYTES = 20 * 2**20  # a gateway takes no larger photo unless its operator says so
_TIMEOUT = 30.0  # seconds
_PHOTOS = re.compile(r"/(data|storage-data|tasks/\d+)/")  # uploads, local files, cloud storage
_ANY_TYPE = {"Accept": "*/*"}  # findings/label_studio_photos.sh
_KEPT_SIGNS = "%/:?#[]@!$&'()*+,;=~"


class TaskPhotos:
    """Fetches photos from `studio`, signed in, and from `hosts`: written as for Fetcher, with public addresses."""

    def __init__(self, studio: LabelStudio | None, hosts: tuple[str, ...]) -> None:
        self._studio, self._fetcher = studio, Fetcher(hosts, _MAX_BYTES, _TIMEOUT)

    async def fetch(self, name: Any) -> bytes | PhotoError:
        """The bytes of the photo that a task calls `name`, or why there are none."""
        if not isinstance(name, str) or not name:
            return PhotoError("invalid_request", "The task names no photo.")
        url = quote(name, safe=_KEPT_SIGNS)
        if self._studio is not None:
            url = urljoin(self._studio.url, url)
        try:
            own = None
            if self._studio and _is_photo_of(self._studio.url, url):
                own = {**await self._studio.sign_in(), **_ANY_TYPE}
            return await self._fetcher.fetch(url, lambda _: None, own)
        except ServiceError as error:
            return PhotoError("url_not_fetched", str(error))
        except GatewayError as error:
            return PhotoError(error.code, error.detail + self._hint(url, error.code))

    def _hint(self, url: str, code: str) -> str:
        if code == "invalid_request" and self._studio is None and url.startswith("/"):
            return " It lies in Label Studio: give --label-studio-url and --label-studio-key."
        if code == "url_not_allowed":
            return " --photos-from HOST allows one."
        return ""


def _is_photo_of(studio: str, url: str) -> bool:
    """Whether the token may go to `url`: to Label Studio itself, and only to where it has photos."""
    base, asked = urlsplit(studio), urlsplit(url)
    path = unquote(asked.path)
    is_plain = ".." not in path.split("/") and "\\" not in path
    start = unquote(base.path)  # other programs of the host may lie beside it
    is_below = (asked.scheme, asked.netloc) == (base.scheme, base.netloc) and path.startswith(start)
    return is_plain and is_below and bool(_PHOTOS.match(path.removeprefix(start)))
