"""The bundled repository, as `make serve` serves it: `everyday`, the default, and `scenes`, each in fp32 and int8."""

from pathlib import Path

import httpx
import numpy as np
import pytest

from export.onnx_file import open_session, session_runner
from labelwise.image import load_pixels
from labelwise.precision import MAX_LOSS
from labelwise.repository import Repository, TaggerVersion
from serving.bulk.rows import tags_of
from tests.conftest import ROOT
from tests.polling import PATIENCE

BUNDLED = ROOT / "model_repository"
MOST_BYTES = 40 * 2**20
NAMES = ("everyday", "scenes")
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


def test_int8_gives_much_the_same_tags_as_fp32(newest: dict[str, TaggerVersion], photos: list[Path]) -> None:
    same = []
    for version in newest.values():
        spec, image = version.spec, version.spec.image
        assert [graph.precision for graph in spec.graphs] == ["fp32", "int8"]
        runs = [session_runner(open_session(version.with_graph(graph).weights), spec) for graph in spec.graphs]
        for photo in photos:
            pixels = load_pixels(photo.read_bytes(), image.height, image.width, image.resize, image.interpolation)
            ours, theirs = (set(tags_of(run(pixels[np.newaxis])["scores"][0], spec)) for run in runs)
            same.append(len(ours & theirs) / max(1, len(ours | theirs)))
    assert sum(same) / len(same) > 0.5


def test_it_says_what_int8_costs_and_that_is_within_the_default_limit(newest: dict[str, TaggerVersion]) -> None:
    for version in newest.values():
        _, int8 = version.spec.graphs
        assert int8.map_change is not None
        assert int8.map_change >= -MAX_LOSS / 100
        assert int8.labelled_photos >= 80


def test_the_page_of_models_says_which_precision_runs_and_why(url: str) -> None:
    for model in httpx.get(f"{url}/v1/models").json()["models"]:
        assert model["precision"] in ("fp32", "int8")
        assert model["precision_reason"].startswith("the fastest here: fp32 ")
        line = f'model="{model["name"]}",precision="{model["precision"]}",reason="the fastest'
        assert line in httpx.get(f"{url}/metrics").text
        contract = httpx.get(f"{url}/v1/models/{model['name']}/contract").json()
        (runs,) = (graph for graph in contract["graphs"] if graph["sha256"] == contract["weights_sha256"])
        assert runs["precision"] == model["precision"]


def test_who_names_no_model_gets_everyday(url: str, photos: list[Path]) -> None:
    listed = httpx.get(f"{url}/v1/models").json()
    assert listed["default"] == "everyday"
    assert sorted(model["name"] for model in listed["models"]) == sorted(NAMES)
    for query, name in [("", "everyday"), *((f"?model={name}", name) for name in NAMES)]:
        answer = httpx.post(f"{url}/v1/tag{query}", content=photos[0].read_bytes(), timeout=PATIENCE).json()
        assert answer["model"] == name


def test_it_finds_a_cup_of_coffee(bundled_gateway_url: str) -> None:
    photo = (ROOT / "tests/assets/photos/coffee-cup.jpg").read_bytes()
    tags = httpx.post(f"{bundled_gateway_url}/v1/tag", content=photo).json()["tags"]
    assert "coffee" in {tag["label"] for tag in tags}
