"""What the gateway says of its models."""

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from labelwise.spec import TaggerSpec
from serving.client import Tagger, UnknownModel
from tests.conftest import running_gateway
from tests.polling import until
from tests.serving.gateway.conftest import Ended
from tests.serving.publishing import copy_to_change, publish_next


def test_the_contract_is_tagger_json(gateway_url: str, repository: Path) -> None:
    answer = httpx.get(f"{gateway_url}/v1/models/scenes/contract")
    assert TaggerSpec.parse(answer.text, "it") == TaggerSpec.read(repository / "scenes")


def test_the_contract_of_a_version(gateway_url: str) -> None:
    newest, same = (httpx.get(f"{gateway_url}/v1/models/scenes/contract{query}").text for query in ("", "?version=1"))
    assert newest == same


@pytest.mark.parametrize("path", ["nope/contract", "scenes/contract?version=9"])
def test_unknown_models_and_versions(gateway_url: str, path: str) -> None:
    answer = httpx.get(f"{gateway_url}/v1/models/{path}")
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_model")


@pytest.fixture(scope="module")
def two(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of two taggers; `scenes` is not the first by name."""
    copy = copy_to_change(repository, tmp_path_factory.mktemp("two") / "repository")
    publish_next(copy, name="other")
    return copy


def test_the_only_model_is_the_default(gateway_url: str) -> None:
    assert httpx.get(f"{gateway_url}/v1/models").json()["default"] == "scenes"


def test_with_two_models_a_request_must_name_one(two: Path, photos: list[Path]) -> None:
    with running_gateway("--repository", str(two)) as (url, _):
        answer = httpx.get(f"{url}/v1/models").json()
        assert (answer["default"], [model["name"] for model in answer["models"]]) == (None, ["other", "scenes"])
        refused = httpx.post(f"{url}/v1/tag", content=photos[0].read_bytes())
        assert (refused.status_code, refused.json()["detail"]) == (422, "model: choose one of other, scenes.")
        with pytest.raises(UnknownModel, match="serves other, scenes: choose one with model="):
            Tagger(url).connect()


def test_with_two_models_one_can_be_the_default(two: Path, photos: list[Path]) -> None:
    arguments = ("--repository", str(two), "--default-model", "scenes")
    with running_gateway(*arguments, reload_interval="0.1") as (url, _), httpx.Client(base_url=url) as client:
        answer = httpx.get(f"{url}/v1/models").json()
        assert (answer["default"], [model["name"] for model in answer["models"]]) == ("scenes", ["scenes", "other"])
        photo = photos[0].read_bytes()
        named = [httpx.post(f"{url}/v1/tag{query}", content=photo).json() for query in ("", "?model=other")]
        assert [tagged["model"] for tagged in named] == ["scenes", "other"]
        with Tagger(url) as tagger:
            assert tagger.tag([photos[0]])[0].model == "scenes"
        (two / "scenes").rename(two / ".scenes")
        until(lambda: client.get("/v1/models").json()["default"] is None)  # not the other, whose labels may differ
        assert client.post("/v1/tag", content=photo).json()["detail"] == "model: choose one of other."
        (two / ".scenes").rename(two / "scenes")
        until(lambda: client.get("/v1/models").json()["default"] == "scenes")


def test_an_unknown_default_model(serve: Callable[..., Ended], repository: Path) -> None:
    started = serve("--repository", str(repository), "--default-model", "nope")
    assert started.returncode == 1
    assert started.stderr.splitlines()[-1] == (
        "labelwise: The setting default_model: there is no model nope; there is scenes."
    )
