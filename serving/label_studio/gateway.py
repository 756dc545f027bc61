"""The gateway, as far as the bridge needs it: taggers that see its newest version, and lessons."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from serving.client import AsyncTagger
from serving.label_studio.errors import ServiceError

_TIMEOUT = httpx.Timeout(10.0, read=900.0, write=120.0)  # a lesson is as long as the gateway's teach_timeout allows
_TEMPORARY = (429, 502, 503, 504)


class Gateway:
    """The gateway at `url`, with `key` if it wants one; `model` is None for its default."""

    def __init__(self, url: str, model: str | None, key: str | None) -> None:
        self.url, self._model, self._key = url.rstrip("/"), model, key
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.AsyncClient(base_url=self.url, headers=headers, timeout=_TIMEOUT)

    async def close(self) -> None:
        await self._client.aclose()

    def tagger(self, within: float = 10.0) -> AsyncTagger:
        """A client of the newest version, connected `within` so many seconds. Raises ClientError.

        A client stays with the version that it met first, so each request needs another.
        """
        return AsyncTagger(self.url, self._model, key=self._key, connect_timeout=within)

    async def require_teaching(self, model: str) -> None:
        """Raises ServiceError if the gateway, this key or `model` does not allow lessons, before photos are fetched."""
        answer = await self._request("GET", "/v1/models")
        served = {each.get("name"): each for each in answer.get("models", ())}
        if "teach" not in answer.get("may", ()):
            raise ServiceError(
                f"The gateway at {self.url} does not let this key teach: start it with --teach, and if it has keys, "
                "give --key one that `labelwise keys add NAME --may teach` made."
            )
        if not served.get(model, {}).get("teachable", True):
            raise ServiceError(f"{model} cannot be taught: only taggers with the head class-evidence can.")

    async def teach(self, model: str, label: str, yes: Sequence[Path], no: Sequence[Path]) -> dict[str, Any]:
        """Adds or improves `label` in the next version of `model`. Returns what was learned. Raises ServiceError."""
        with contextlib.ExitStack() as opened:
            files = [
                (answer, (file.name, opened.enter_context(file.open("rb")), "application/octet-stream"))
                for answer, photos in (("yes", yes), ("no", no))
                for file in photos
            ]
            form = {"data": {"label": label}, "files": files}
            return await self._request("POST", "/v1/teach", params={"model": model}, **form)

    async def _request(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        try:
            response = await self._client.request(method, path, **request)
            content = response.json()
        except httpx.RequestError as error:
            reason = str(error) or type(error).__name__
            raise ServiceError(f"The gateway at {self.url} does not answer: {reason}.", is_temporary=True) from error
        except ValueError:
            content = None
        content = content if isinstance(content, dict) else {}
        if not response.is_success:
            detail = content.get("detail") or f"it answered {response.status_code} {response.reason_phrase}."
            raise ServiceError(f"{self.url}: {detail}", is_temporary=response.status_code in _TEMPORARY)
        return content
