"""A model with scores only, as one trained elsewhere may be: it tags, and refuses to explain or embed."""

import asyncio
from pathlib import Path

import httpx
import onnx
import pytest

from export.publish import publish, staging
from labelwise.repository import WEIGHTS_FILE
from labelwise.spec import TaggerSpec
from serving.engines import create_engine
from serving.gateway.app import create_app
from serving.settings import Settings
from tests.conftest import ROOT
from tests.contracts import with_graph
from tests.serving.gateway.routes.test_tag import assert_problem
from tests.serving.raw_http import PHOTO


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """The bundled model without its other outputs."""
    model = onnx.load(ROOT / "model_repository/scenes_model/1" / WEIGHTS_FILE)
    del model.graph.output[1:]
    spec = TaggerSpec.read(ROOT / "model_repository/scenes")
    with staging(tmp_path) as stage:
        weights = stage / WEIGHTS_FILE
        onnx.save(model, weights)
        less = {"outputs": spec.outputs[:1], "embedding_dim": None, "attention_grid": None}
        spec = with_graph(spec, weights, **less)
        publish(tmp_path, stage, spec, "onnxruntime")
    return tmp_path


@pytest.fixture
def answers(repository: Path) -> dict[str, httpx.Response]:
    async def ask() -> dict[str, httpx.Response]:
        settings = Settings(repository=repository, reload_interval=0)
        engine = create_engine(settings)
        await engine.start()
        transport = httpx.ASGITransport(create_app(settings, engine))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            found = {name: await client.post(f"/v1/{name}", content=PHOTO) for name in ("tag", "explain", "embed")}
        await engine.close()
        return found

    return asyncio.run(ask())


def test_reports_which_outputs_a_model_lacks(answers: dict[str, httpx.Response]) -> None:
    assert answers["tag"].json()["tags"][0]["label"] == "sunset"
    assert_problem(answers["explain"], 422, "output_not_offered")
    assert "scenes offers no attention" in answers["explain"].json()["detail"]
    assert_problem(answers["embed"], 422, "output_not_offered")
