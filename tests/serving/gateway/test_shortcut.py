"""The shortcut answers to the byte what FastAPI's way answers, or leaves the request to it."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from serving.engines import create_engine
from serving.gateway.app import create_app
from serving.gateway.requests.query import TagQuery
from serving.gateway.shortcut import Shortcut
from serving.settings import Settings
from tests.conftest import ROOT

PHOTO = (ROOT / "tests/assets/photos/sunset-bay-palm.jpg").read_bytes()
TAKEN = ("", "scores=all", "top_k=2&scores=all", "threshold=sea:0.1,trees:0.2", "labels=sea%2Ctrees&scores=all")
ALSO_TAKEN = ("labels=moon", "threshold=nan", "model=none", "version=99", "threshold=", "labels=s%C3%A9a", "labels=a+b")
LEFT = ("top_k=0", "top_k=many", "scores=some", "unknown=1", "top_k=1&top_k=2", "scores=", "version=1.5", "x" * 600)


def is_taken(query: str) -> bool:
    scope: dict[str, Any] = {"type": "http", "path": "/v1/tag", "method": "POST", "query_string": query.encode()}
    return Shortcut(None, "/v1/tag", None, TagQuery)._query_of(scope) is not None  # type: ignore[arg-type]


def test_which_queries_take_it() -> None:
    assert [query for query in (*TAKEN, *ALSO_TAKEN) if not is_taken(query)] == []
    assert [query for query in LEFT if is_taken(query)] == []


def test_both_ways_give_the_same_answer(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(repository=repository)

    async def answers(app: FastAPI) -> list[tuple[int, bytes, list[tuple[bytes, bytes]]]]:
        found = []
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            for query in (*TAKEN, *ALSO_TAKEN, *LEFT):
                for body in (PHOTO, PHOTO[:1000], b""):
                    headers = {"X-Request-ID": "the-same"}
                    answer = await client.post(f"/v1/tag?{query}", content=body, headers=headers)
                    found.append((answer.status_code, answer.content, sorted(answer.headers.raw)))
            metrics = (await client.get("/metrics")).text
        assert 'labelwise_requests_total{route="/v1/tag",status="200"}' in metrics
        return found

    async def both() -> tuple[list[Any], list[Any]]:
        engine = create_engine(settings)
        await engine.start()
        try:
            short = await answers(create_app(settings, engine))
            monkeypatch.setattr(Shortcut, "_query_of", lambda *_: None)
            return short, await answers(create_app(settings, engine))
        finally:
            await engine.close()

    short, long = asyncio.run(both())
    assert short == long
    assert {status for status, *_ in short} == {200, 404, 422}
