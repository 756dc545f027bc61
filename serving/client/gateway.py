"""The transport to the gateway: encoded photos over HTTP, several in one request."""

import asyncio
import io
from collections.abc import Mapping, Sequence
from typing import Any, cast

import httpx
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from labelwise.errors import SpecError
from labelwise.spec import TaggerSpec
from serving.client.errors import (
    ClientClosed,
    ClientError,
    OutputNotOffered,
    PhotoError,
    PhotosRefused,
    ServerBusy,
    ServerFailed,
    ServerTimeout,
    ServerUnavailable,
    Unauthorized,
    UnknownModel,
    WrongContract,
)
from serving.client.servers import Servers
from serving.engines.base import Outputs, Pixels

_Answer = Mapping[str, Any]

# The gateway's codes (serving/errors.py) for what is wrong with one photo and no other.
_ABOUT_THE_PHOTO = ("image_", "body_too_large")


class GatewayTransport:
    """See Transport. `urls` are gateways that serve the same version of `model`, or of their only one."""

    takes_pixels = False

    def __init__(self, urls: Sequence[str], model: str | None, *, key: str | None, connect_timeout: float) -> None:
        self._urls, self._model, self._key, self._connect_timeout = urls, model, key, connect_timeout
        self._servers: Servers[_GatewayLink] | None = None

    @property
    def spec(self) -> TaggerSpec:
        return self._connected.contract

    @property
    def _connected(self) -> "Servers[_GatewayLink]":
        if self._servers is None:
            raise ClientClosed("The client is not connected.")
        return self._servers

    async def connect(self) -> None:
        """Raises ServerUnavailable, UnknownModel or Unauthorized."""
        self._servers = Servers([_GatewayLink(url, self._model, self._key) for url in self._urls])
        try:
            await self._connected.connect(self._connect_timeout)
        except BaseException:
            await self.close()
            raise

    async def infer(self, pixels: Pixels, outputs: Sequence[str], timeout: float) -> Outputs:
        """Sent as PNG, which loses nothing; at the model's size the gateway resizes nothing either."""
        return await self.infer_encoded([_as_png(image) for image in pixels], outputs, timeout)

    async def infer_encoded(self, photos: Sequence[bytes], outputs: Sequence[str], timeout: float) -> Outputs:
        spec = self.spec
        if missing := sorted(set(outputs) - set(spec.output_names)):
            raise OutputNotOffered(
                f"{spec.name} has no {', '.join(missing)}; it offers {', '.join(spec.output_names)}."
            )
        servers = self._connected

        async def scores(photo: bytes) -> NDArray[np.float32]:
            return await servers.call(lambda link, within: link.tag(photo, spec, within), timeout)

        answers = await asyncio.gather(*map(scores, photos), return_exceptions=True)
        return {"scores": np.stack(_all_of(answers))}

    async def close(self) -> None:
        if self._servers is not None:
            await self._servers.close()


def _all_of(answers: Sequence[Any]) -> list[Any]:
    """The answers, if there is one for each photo; PhotosRefused names all that have none."""
    refused: dict[int, PhotoError] = {}
    for index, answer in enumerate(answers):
        if isinstance(answer, PhotosRefused):
            refused[index] = answer.errors[0]
        elif isinstance(answer, BaseException):
            raise answer
    if refused:
        raise PhotosRefused(refused)
    return list(answers)


class _GatewayLink:
    """The connections to one gateway."""

    def __init__(self, url: str, model: str | None, key: str | None) -> None:
        self.url, self._model = url, model
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.AsyncClient(base_url=url, headers=headers, timeout=None)

    async def close(self) -> None:
        await self._client.aclose()

    async def contract(self, timeout: float) -> TaggerSpec:
        model = self._model or await self._only_model(timeout)
        response = await self._request("GET", f"/v1/models/{model}/contract", timeout)
        try:
            return TaggerSpec.parse(response.text, f"the contract at {self.url}")
        except SpecError as error:
            raise WrongContract(f"{error}; the gateway and this client are of different releases.") from error

    async def tag(self, photo: bytes, spec: TaggerSpec, timeout: float) -> NDArray[np.float32]:
        """Scores [l] of one photo."""
        query = {"model": spec.name, "version": str(spec.version), "scores": "all"}
        answer = await self._json("POST", "/v1/tag", timeout, params=query, content=photo, headers=_RAW)
        return _scores(answer["scores"], spec)

    async def _only_model(self, timeout: float) -> str:
        names = [model["name"] for model in (await self._json("GET", "/v1/models", timeout))["models"]]
        if len(names) != 1:
            raise UnknownModel(f"{self.url} serves {', '.join(names)}: choose one with model=….")
        return cast(str, names[0])

    async def _json(self, method: str, path: str, timeout: float, **request: Any) -> _Answer:
        return cast(_Answer, (await self._request(method, path, timeout, **request)).json())

    async def _request(self, method: str, path: str, timeout: float, **request: Any) -> httpx.Response:
        try:
            response = await asyncio.wait_for(self._client.request(method, path, **request), timeout)
        except asyncio.TimeoutError:
            raise ServerTimeout(f"{self.url} did not answer within {timeout:.3g} s.") from None
        except httpx.TransportError as error:
            raise ServerUnavailable(f"{self.url} does not answer: {error or type(error).__name__}") from error
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise ClientError(f"{self.url} is no address: {error}") from error
        if response.is_success:
            return response
        raise _error_of(self.url, response)


_RAW = {"Content-Type": "application/octet-stream"}


def _scores(entries: Sequence[Mapping[str, Any]], spec: TaggerSpec) -> NDArray[np.float32]:
    by_label = {entry["label"]: entry["score"] for entry in entries}
    return np.array([by_label[label] for label in spec.labels], np.float32)


def _error_of(url: str, response: httpx.Response) -> ClientError:
    """The client's error for an answer that is none; the gateway's own words where it is the gateway's."""
    try:
        problem = response.json()
        code, detail = str(problem["code"]), str(problem["detail"])
    except (ValueError, KeyError, TypeError):  # something in between, such as a proxy
        code, detail = "", f"it answered {response.status_code} {response.reason_phrase}"
    if code.startswith(_ABOUT_THE_PHOTO):
        return PhotosRefused({0: PhotoError(code, detail)})
    message = f"{url}: {detail}"
    if code == "output_not_offered":
        return OutputNotOffered(message)
    return _BY_STATUS.get(response.status_code, ServerFailed)(message)


_BY_STATUS: dict[int, type[ClientError]] = {
    401: Unauthorized,
    403: Unauthorized,
    404: UnknownModel,
    429: ServerBusy,
    502: ServerUnavailable,
    503: ServerUnavailable,
    504: ServerTimeout,
}


def _as_png(image: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
