"""The metrics and settings in docs/operations.md exist under these names."""

import re

import httpx

from tests.conftest import ROOT

DOCUMENT = (ROOT / "docs/operations.md").read_text()
PHOTO = (ROOT / "tests/assets/photos/sunset-bay-palm.jpg").read_bytes()


def series(text: str) -> set[str]:
    return {re.split(r"[{ ]", line, maxsplit=1)[0] for line in text.splitlines() if not line.startswith("#")}


def named(prefix: str) -> set[str]:
    return set(re.findall(rf"\b{prefix}_[a-z_]+", DOCUMENT))


def test_every_metric_of_the_gateway_is_documented_and_exists(gateway_url: str) -> None:
    for _ in range(5):  # one per label, so that scores are counted
        httpx.post(f"{gateway_url}/v1/tag", content=PHOTO).raise_for_status()
    httpx.get(f"{gateway_url}/nowhere")
    found = {name for name in series(httpx.get(f"{gateway_url}/metrics").text) if not name.endswith("_created")}
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in found}
    assert named("labelwise") <= found | families
    assert families <= named("labelwise")


def test_every_metric_of_triton_exists(triton_gateway_url: str, triton_arguments: dict[str, str]) -> None:
    httpx.post(f"{triton_gateway_url}/v1/tag", content=PHOTO).raise_for_status()
    text = httpx.get(f"http://127.0.0.1:{triton_arguments['triton_metrics_port']}/metrics").text
    assert named("nv")
    assert named("nv") <= series(text)


def test_every_setting_exists() -> None:
    from serving.settings import Settings

    code = re.findall(r"`([a-z]+_[a-z_]+)(?:=[^`]*)?`", DOCUMENT)
    settings = {name for name in code if name not in {"shutting_down", "trace_id", "key_name"}}
    assert settings
    assert {name for name in settings if not name.startswith("labelwise_")} <= set(Settings.model_fields)
