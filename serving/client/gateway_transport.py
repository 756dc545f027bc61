"""The transport to the gateway: encoded photos over HTTP, several in one request if the route takes them."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

import httpx
import numpy as np
from numpy.typing import NDArray

from labelwise.errors import SpecError
from labelwise.spec import TaggerSpec
from serving.client.calls import NOTES, SEEN_PHOTO, PhotoOutputs, noted
from serving.client.photos import BadPhoto
from serving.client.servers import Servers
from serving.errors import (
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
from serving.inference import Outputs, Pixels

_AT_ONCE = 16  # requests of one photo; a gateway's default is to accept 64 photos
_RAW = {"Content-Type": "application/octet-stream"}

# The gateway's codes (serving/gateway/problems.py) for what is wrong with the photos that were sent.
_ABOUT_THE_PHOTOS = ("image_", "body_too_large", "too_many_images")
_BY_STATUS: dict[int, type[ClientError]] = {
    401: Unauthorized,
    403: Unauthorized,
    429: ServerBusy,
    502: ServerUnavailable,
    503: ServerUnavailable,
    504: ServerTimeout,
}
_BY_CODE: dict[str, type[ClientError]] = {"unknown_model": UnknownModel, "output_not_offered": OutputNotOffered}


class GatewayLink:
    """Asks the gateway at `url`, with `key` if it wants one. All methods raise ClientErrors.

    Those that send photos raise BadPhoto for what the gateway does not take, or not so much of it at once.
    """

    def __init__(self, url: str, key: str | None) -> None:
        self.url = url
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        try:
            self._client = httpx.AsyncClient(base_url=url, headers=headers, timeout=None, limits=httpx.Limits())
        except httpx.InvalidURL as error:
            raise ClientError(f"{url} is not an address: {error}.") from error
        except (ImportError, OSError, ValueError) as error:
            raise ClientError(
                f"{url} cannot be asked with the proxy or the certificates of the environment (HTTPS_PROXY, ALL_PROXY, "
                f"SSL_CERT_FILE, …): {error}."
            ) from error

    async def close(self) -> None:
        await self._client.aclose()

    async def give_sign(self, timeout: float) -> None:
        with contextlib.suppress(httpx.RequestError):
            await asyncio.wait_for(self._client.get("/v2/health/live"), timeout)

    async def contract(self, model: str | None, version: int | None, timeout: float) -> TaggerSpec:
        path = f"/v1/models/{model or await self._default_model(timeout)}/contract"
        try:
            response = await self._request("GET", path, timeout, params={"version": version} if version else {})
        except UnknownModel:
            if version is None:
                raise
            response = await self._request("GET", path, timeout)
        try:
            return TaggerSpec.parse(response.text, f"the contract at {self.url}")
        except SpecError as error:
            raise WrongContract(f"{error}; the gateway and this client are of different releases.") from error

    async def tag(self, photo: bytes, spec: TaggerSpec, timeout: float) -> PhotoOutputs:
        answer = await self._post("/v1/tag", spec, timeout, {"scores": "all"}, content=photo, headers=_RAW)
        with self._understood():
            return _scores(answer.json(), spec)

    async def tag_many(
        self, photos: Sequence[bytes], spec: TaggerSpec, timeout: float
    ) -> list[PhotoOutputs | PhotoError]:
        """A row or an error per photo."""
        files = [("files", (str(place), photo, "application/octet-stream")) for place, photo in enumerate(photos)]
        answer = await self._post("/v1/tag:batch", spec, timeout, {"scores": "all"}, files=files)
        with self._understood():
            results = answer.json()["results"]
            if [result["id"] for result in results] != [str(place) for place in range(len(photos))]:
                raise ServerFailed(f"{self.url} did not answer the {len(photos)} photos in order.")
            return [self._item(result, spec) for result in results]

    async def embed(self, photo: bytes, spec: TaggerSpec, timeout: float) -> PhotoOutputs:
        headers = _RAW | {"Accept": "application/octet-stream"}  # JSON would be several times as long
        answer = await self._post("/v1/embed", spec, timeout, {}, content=photo, headers=headers)
        with self._understood():
            values = np.frombuffer(answer.content, "<f4").astype(np.float32)
            told = answer.headers.get("X-Labelwise-Notes")
            notes = [unquote(text) for text in told.split(",")] if told else []
            return {"embeddings": values.reshape(len(spec.labels), -1), NOTES: noted(notes)}

    async def explain(self, photo: bytes, spec: TaggerSpec, timeout: float) -> PhotoOutputs:
        # Every label is a tag at a threshold of 0.
        answer = await self._post("/v1/explain", spec, timeout, {"threshold": "0"}, content=photo, headers=_RAW)
        with self._understood():
            said = answer.json()
            image, seen = said["image"], {entry["label"]: entry for entry in said["labels"]}
            return {
                "scores": np.array([seen[label]["score"] for label in spec.labels], np.float32),
                "attention": np.array([seen[label]["attention"] for label in spec.labels], np.float32),
                SEEN_PHOTO: np.array([image["width"], image["height"], image["orientation"]], np.float32),
                NOTES: noted(said.get("notes", ())),
            }

    def _item(self, result: Mapping[str, Any], spec: TaggerSpec) -> PhotoOutputs | PhotoError:
        if "error" not in result:
            return _scores(result, spec)
        problem = result["error"]
        error = _translated(self.url, problem["status"], problem["code"], problem["detail"])
        if isinstance(error, BadPhoto):
            return error.error
        raise error

    @contextlib.contextmanager
    def _understood(self) -> Iterator[None]:
        """Raises ServerFailed if what the block reads is not the answer of a gateway."""
        try:
            yield
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise ServerFailed(f"{self.url} did not answer as a gateway does; is this its address?") from error

    async def _default_model(self, timeout: float) -> str:
        answer = await self._request("GET", "/v1/models", timeout)
        with self._understood():
            there = answer.json()
            default, names = there["default"], ", ".join(str(model["name"]) for model in there["models"])
        if default is None:
            raise UnknownModel(f"{self.url} serves {names}: choose one with model=….")
        return str(default)

    async def _post(
        self, path: str, spec: TaggerSpec, timeout: float, query: Mapping[str, str], **request: Any
    ) -> httpx.Response:
        chosen = {"model": spec.name, "version": str(spec.version), **query}
        return await self._request("POST", path, timeout, params=chosen, **request)

    async def _request(self, method: str, path: str, timeout: float, **request: Any) -> httpx.Response:
        # So the gateway, too, stops work whose caller is gone.
        headers = {"X-Request-Timeout": f"{timeout:.3f}", **request.pop("headers", {})}
        try:
            sent = self._client.request(method, path, headers=headers, **request)
            response = await asyncio.wait_for(sent, timeout)
        except asyncio.TimeoutError:
            raise ServerTimeout(f"{self.url} did not answer within {timeout:.3g} s.") from None
        except httpx.RequestError as error:
            raise ServerUnavailable(f"{self.url} does not answer: {error or type(error).__name__}.") from error
        if response.is_success:
            return response
        try:
            problem = response.json()
            code, detail = str(problem["code"]), str(problem["detail"])
        except (ValueError, KeyError, TypeError):  # from something in between, such as a proxy
            code, detail = "", f"it answered {response.status_code} {response.reason_phrase}."
        raise _translated(self.url, response.status_code, code, detail)


def _scores(answer: Mapping[str, Any], spec: TaggerSpec) -> PhotoOutputs:
    by_label = {entry["label"]: entry["score"] for entry in answer["scores"]}
    scores: NDArray[np.float32] = np.array([by_label[label] for label in spec.labels], np.float32)
    return {"scores": scores, NOTES: noted(answer.get("notes", ()))}


def _translated(url: str, status: int, code: str, detail: str) -> ClientError | BadPhoto:
    """Returns our error for a problem of the gateway's, in its own words."""
    if code.startswith(_ABOUT_THE_PHOTOS):
        return BadPhoto(code, detail)
    kind = _BY_CODE.get(code) or _BY_STATUS.get(status, ServerFailed)
    return kind(f"{url}: {detail}")


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
        raise ClientError("A gateway takes photos as bytes.")

    async def infer_encoded(self, photos: Sequence[bytes], outputs: Sequence[str], timeout: float) -> Outputs:
        if "attention" in outputs:  # the scores come with it
            rows = await self._singly(GatewayLink.explain, photos, timeout)
        elif "embeddings" in outputs:
            rows = await self._singly(GatewayLink.embed, photos, timeout)
        else:
            rows = await self._scores(photos, timeout)
        if refused := {place: row for place, row in enumerate(rows) if isinstance(row, PhotoError)}:
            raise PhotosRefused(refused)
        whole = [row for row in rows if not isinstance(row, PhotoError)]
        return {name: np.stack([row[name] for row in whole]) for name in whole[0]}

    async def _scores(self, photos: Sequence[bytes], timeout: float) -> list[_Answered]:
        """Sends one request, or several if the gateway does not take so much at once."""
        if len(photos) == 1:
            return await self._singly(GatewayLink.tag, photos, timeout)
        spec = self.spec
        try:
            return await self.call(lambda link, within: link.tag_many(photos, spec, within), timeout)
        except BadPhoto:
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
            except BadPhoto as error:
                return error.error

        return list(await asyncio.gather(*map(one, photos)))
