"""What the gateway says of its models."""

from pathlib import Path

import httpx

from labelwise.spec import TaggerSpec


def test_the_contract_is_tagger_json(gateway_url: str, repository: Path) -> None:
    answer = httpx.get(f"{gateway_url}/v1/models/scenes/contract")
    assert TaggerSpec.parse(answer.text, "it") == TaggerSpec.read(repository / "scenes")


def test_there_is_none_of_an_unknown_model(gateway_url: str) -> None:
    answer = httpx.get(f"{gateway_url}/v1/models/nope/contract")
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_model")
