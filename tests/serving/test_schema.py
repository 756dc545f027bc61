"""The OpenAPI document: it has examples everywhere, and schemathesis finds no answer that contradicts it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.gateway.problems import PROBLEM_TYPE, PROBLEMS
from tests.conftest import ROOT, running_gateway
from tests.polling import PATIENCE

METHODS = {"get", "post", "delete"}
# Answers of the connection, to a proxy's mistake and to protect browsers are the same for every address.
NOT_OF_ROUTES = {
    *("malformed_request", "cross_origin", "method_not_allowed", "header_timeout", "headers_too_large"),
    *("misdirected_request", "client_closed", "too_many_connections", "image_not_base64", "unauthorized"),
    "transfer_coding_unsupported",
}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A gateway with everything switched on."""
    with running_gateway("--teach", feedback=str(tmp_path_factory.mktemp("schema") / "feedback.db")) as (url, _):
        yield url


@pytest.fixture(scope="module")
def document(url: str) -> dict[str, Any]:
    document: dict[str, Any] = httpx.get(f"{url}/openapi.json").json()
    return document


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert method in METHODS
            yield f"{method} {path}", operation


def test_every_answer_and_every_error_has_an_example(document: dict[str, Any]) -> None:
    seen = set()
    for name, operation in operations(document):
        assert operation["summary"]
        for status, response in operation["responses"].items():
            for kind, content in response["content"].items():
                if kind in ("image/png", "application/octet-stream"):
                    continue  # described in words
                assert "example" in content or content["examples"], (name, status, kind)
                for code, example in content.get("examples", {}).items():
                    assert kind == PROBLEM_TYPE
                    assert example["value"]["code"] == code
                    assert str(example["value"]["status"]) == status
                    seen.add(code)
    assert seen == PROBLEMS.keys() - NOT_OF_ROUTES


def test_every_address_that_takes_photos_documents_its_errors(document: dict[str, Any]) -> None:
    paths = ("/v1/tag", "/v1/tag:batch", "/v1/explain", "/v1/embed")
    expected = {"200", "400", "404", "408", "413", "415", "422", "429", "500", "503", "504"}
    for path in paths:
        assert document["paths"][path]["post"]["responses"].keys() == expected


def test_schemathesis_finds_nothing(url: str, tmp_path: Path) -> None:
    program, config = Path(sys.executable).with_name("schemathesis"), ROOT / "tests/serving/schemathesis.toml"
    options = ["--max-examples", "12", "--seed", "1", "--no-color"]
    run = subprocess.run(
        [program, "--config-file", config, "run", f"{url}/openapi.json", *options],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "SCHEMATHESIS_HOOKS": "tests.serving.schema_hooks"},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=PATIENCE,
    )
    assert run.returncode == 0, run.stdout
    assert "No issues found" in run.stdout
    assert "17 selected / 17 total" in run.stdout
