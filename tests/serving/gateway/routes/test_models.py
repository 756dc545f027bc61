"""What the gateway says of its models."""

from pathlib import Path

import httpx
import pytest

from labelwise.spec import TaggerSpec


def test_the_contract_is_tagger_json(gateway_url: str, repository: Path) -> None:
    answer = httpx.get(f"{gateway_url}/v1/models/scenes/contract")
    assert TaggerSpec.parse(answer.text, "it") == TaggerSpec.read(repository / "scenes")


def test_the_contract_of_a_version(gateway_url: str) -> None:
    newest, same = (httpx.get(f"{gateway_url}/v1/models/scenes/contract{query}").text for query in ("", "?version=1"))
    assert newest == same


@pytest.mark.parametrize("path", ["nope/contract", "scenes/contract?version=9"])
def test_there_is_none_of_what_is_not_served(gateway_url: str, path: str) -> None:
    answer = httpx.get(f"{gateway_url}/v1/models/{path}")
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_model")
