"""A client that began with one version, while the server takes the next."""

from pathlib import Path

import httpx
import pytest
from tritonclient.grpc import InferenceServerClient

from serving.client import Tagger, TagResult, WrongContract
from tests.conftest import free_port, running_gateway
from tests.polling import until
from tests.serving.publishing import copy_to_change, publish_next


def versions(url: str) -> list[int]:
    answer = httpx.get(f"{url}/v1/models/scenes")
    return list(answer.json()["versions"]) if answer.is_success else []


def ensemble_is_ready(triton: str, version: str) -> bool:
    """Triton loads the ensemble after the models in it, so later than the gateway can serve the version."""
    with InferenceServerClient(triton.removeprefix("grpc://")) as client:
        return bool(client.is_model_ready("scenes", version))


def test_results_stay_those_of_one_version(
    triton_arguments: dict[str, str], repository: Path, photos: list[Path], tmp_path: Path
) -> None:
    copy = copy_to_change(repository, tmp_path / "repository")
    ports = {"triton_grpc_port": str(free_port()), "triton_metrics_port": str(free_port())}
    settings = triton_arguments | ports | {"reload_interval": "0.2"}
    with running_gateway("--repository", str(copy), **settings) as (gateway, _):
        triton = f"grpc://127.0.0.1:{ports['triton_grpc_port']}"
        with (
            Tagger(gateway, "scenes") as http,
            Tagger(triton, "scenes", send="pixels") as pixels,
            Tagger(triton, "scenes", send="bytes") as encoded,
        ):
            before = http.tag(photos[:2])
            assert [tags(before), tags(before)] == [tags(pixels.tag(photos[:2])), tags(encoded.tag(photos[:2]))]
            publish_next(copy)
            until(lambda: 2 in versions(gateway) and ensemble_is_ready(triton, "2"))
            for tagger in (http, pixels):
                assert tags(tagger.tag(photos[:2])) == tags(before)
            with pytest.raises(WrongContract, match="serves scenes version 2, not 1 as at first"):
                encoded.tag(photos[:2])  # the ensemble answers only with the newest
        for url in (gateway, triton):
            with Tagger(url, "scenes") as tagger:
                assert {result.version for result in tagger.tag(photos[:2])} == {2}


def tags(results: list[TagResult]) -> list[tuple[int, list[str]]]:
    return [(result.version, [tag.label for tag in result.tags]) for result in results]
