"""Label Studio's API, as far as lessons need it."""

import asyncio
import base64
import json
import re
import time
from collections.abc import Mapping
from typing import Any

import httpx
from pydantic import BaseModel, TypeAdapter, ValidationError

from serving.label_studio.errors import ServiceError

_TIMEOUT = httpx.Timeout(10.0, read=120.0)  # an export of ten thousand tasks takes long
_BEFORE_THE_END = 30.0  # seconds that an access token must still be valid
_VALID_AT_LEAST = 60.0  # seconds, if a token does not say


class Result(BaseModel):
    """One answer in an annotation."""

    from_name: str | None = None
    value: dict[str, Any] = {}


class Annotation(BaseModel):
    was_cancelled: bool = False  # the annotator skipped the task
    result: list[Result] = []


class Task(BaseModel):
    data: dict[str, Any]
    annotations: list[Annotation] = []


_TASKS = TypeAdapter(list[Task])


class LabelStudio:
    """The Label Studio at `url`. `token` is a personal access token, or a legacy one, as its account page shows it."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url.rstrip("/")
        self._token = token.strip()
        self._is_personal = self._token.count(".") == 2  # a JSON Web Token, which is exchanged for short-lived ones
        self._access, self._valid_until = "", 0.0
        self._refreshing = asyncio.Lock()
        self._client = httpx.AsyncClient(timeout=_TIMEOUT)

    async def close(self) -> None:
        await self._client.aclose()

    async def sign_in(self) -> Mapping[str, str]:
        """The headers of a request that is signed in. Raises ServiceError."""
        if not self._is_personal:
            return {"Authorization": f"Token {self._token}"}
        async with self._refreshing:
            if time.time() > self._valid_until - _BEFORE_THE_END:
                answer = await self._ask("POST", "/api/token/refresh/", json={"refresh": self._token})
                self._access = str(answer.get("access", "")) if isinstance(answer, dict) else ""
                self._valid_until = _end_of(self._access)
        return {"Authorization": f"Bearer {self._access}"}

    async def config(self, project: int) -> str:
        """The project's labelling configuration. Raises ServiceError."""
        answer = await self._get(f"/api/projects/{project}")
        if not isinstance(answer, dict) or not isinstance(answer.get("label_config"), str):
            raise ServiceError(f"{self.url} did not answer as Label Studio does; is this its address?")
        return str(answer["label_config"])

    async def annotated_tasks(self, project: int) -> list[Task]:
        """The tasks that have annotations, from the JSON export. Raises ServiceError."""
        answer = await self._get(f"/api/projects/{project}/export", exportType="JSON")
        try:
            return _TASKS.validate_python(answer)
        except ValidationError as error:
            raise ServiceError(f"{self.url} exports project {project} in a form that is not known here.") from error

    async def name_backend(self, project: int, model: str, version: str) -> None:
        """Renames a backend of the project that is titled as another version of `model`, such as "everyday 2".

        Label Studio sorts and samples by the scores of only those predictions whose version is the title of the backend
        (findings/label_studio.sh). Raises ServiceError.
        """
        backends = await self._get("/api/ml", project=str(project))
        for backend in backends if isinstance(backends, list) else ():
            title = str(backend.get("title"))
            if title != version and re.fullmatch(rf"{re.escape(model)} \d+", title):
                # It checks the connection again, for which it needs the URL.
                changes = {"title": version, "url": backend.get("url"), "project": project}
                await self._ask("PATCH", f"/api/ml/{backend.get('id')}", json=changes, headers=await self.sign_in())

    async def _get(self, path: str, **query: str) -> Any:
        return await self._ask("GET", path, params=query, headers=await self.sign_in())

    async def _ask(self, method: str, path: str, **request: Any) -> Any:
        try:
            response = await self._client.request(method, self.url + path, **request)
            content = response.json() if response.content else None
        except httpx.RequestError as error:
            reason = str(error) or type(error).__name__
            raise ServiceError(f"Label Studio at {self.url} does not answer: {reason}.", is_temporary=True) from error
        except ValueError:
            content = None
        if response.status_code in (401, 403):
            raise ServiceError(f"Label Studio at {self.url} refuses the token: {_detail(content, response)}")
        if not response.is_success:
            raise ServiceError(
                f"Label Studio at {self.url} answers {path} with {response.status_code}: {_detail(content, response)}",
                is_temporary=response.status_code >= 500,
            )
        return content


def _detail(content: Any, response: httpx.Response) -> str:
    told = content.get("detail") if isinstance(content, dict) else None
    return " ".join(str(told or response.reason_phrase).split()).rstrip(".") + "."


def _end_of(access: str) -> float:
    """When the access token expires, as a Unix time."""
    try:
        part = access.split(".")[1]
        return float(json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))["exp"])
    except (ValueError, IndexError, KeyError, TypeError):
        return time.time() + _VALID_AT_LEAST
