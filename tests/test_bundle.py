"""The bundled repository, as `make serve` serves it: `everyday` and `scenes`, each in fp32 and in int8."""

from pathlib import Path
from typing import Any

import httpx
import onnx
import pytest

from export.tolerances import precision_of
from labelwise.repository import Repository, TaggerVersion
from tests.conftest import ROOT

BUNDLED = ROOT / "model_repository"
pytestmark = pytest.mark.skipif(not (BUNDLED / "everyday").is_dir(), reason="everyday is not bundled yet")
MOST_BYTES = 40 * 2**20
PRECISIONS = {"everyday": "fp32", "everyday_int8": "int8", "scenes": "fp32", "scenes_int8": "int8"}
COCO = """person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, stop sign,
parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella,
handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, skateboard,
surfboard, tennis racket, bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange,
broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed, dining table, toilet, tv,
laptop, mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, book, clock, vase,
scissors, teddy bear, hair drier, toothbrush"""


@pytest.fixture(scope="module")
def newest() -> dict[str, TaggerVersion]:
    taggers = Repository.open(BUNDLED).taggers
    return {name: versions[max(versions)] for name, versions in taggers.items()}


@pytest.fixture(scope="module", params=["embedded", "triton"])
def url(request: pytest.FixtureRequest) -> str:
    if request.param == "embedded":
        return request.getfixturevalue("bundled_gateway_url")
    return request.getfixturevalue("bundled_triton")[0]


def test_its_files_stay_small() -> None:
    assert sum(file.stat().st_size for file in BUNDLED.rglob("*") if file.is_file()) <= MOST_BYTES


def test_everyday_knows_most_of_cocos_words_and_more(newest: dict[str, TaggerVersion]) -> None:
    labels = newest["everyday"].spec.labels
    assert len(labels) >= 150
    assert "person" in labels
    assert len(set(labels) & set(COCO.replace("\n", " ").split(", "))) >= 65


def test_each_tagger_is_there_in_fp32_and_in_int8(newest: dict[str, TaggerVersion]) -> None:
    assert {name: precision_of(onnx.load(tagger.weights)) for name, tagger in newest.items()} == PRECISIONS
    for name in ("everyday", "scenes"):
        whole, small = (newest[precision].spec.model_dump() for precision in (name, f"{name}_int8"))
        own = {"name", "version", "weights_sha256", "metrics"}
        assert {key for key in whole if whole[key] != small[key]} <= own


def test_who_names_no_model_gets_everyday(url: str, photos: list[Path]) -> None:
    listed = httpx.get(f"{url}/v1/models").json()
    assert listed["default"] == "everyday"
    assert sorted(model["name"] for model in listed["models"]) == sorted(PRECISIONS)
    for query, name in [("", "everyday"), *((f"?model={name}", name) for name in PRECISIONS)]:
        answer = httpx.post(f"{url}/v1/tag{query}", content=photos[0].read_bytes(), timeout=60).json()
        assert answer["model"] == name


def test_it_finds_a_cup_of_coffee(bundled_gateway_url: str) -> None:
    answers: list[dict[str, Any]] = [
        httpx.post(
            f"{bundled_gateway_url}/v1/tag?model={model}",
            content=(ROOT / "tests/assets/photos/coffee-cup.jpg").read_bytes(),
        ).json()
        for model in ("everyday", "everyday_int8")
    ]
    for answer in answers:
        assert {"cup", "coffee"} & {tag["label"] for tag in answer["tags"]}
