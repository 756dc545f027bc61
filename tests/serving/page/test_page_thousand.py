"""A model with a thousand labels: a page that shows few of them and finds the others."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.conftest import running_gateway
from tests.serving import chromium
from tests.serving.chromium import ask_api, card, expect, open_thresholds, opened_page, pick_done, slide
from tests.serving.many_labels import THOUSAND, publish_many_labels

browser = chromium.browser


@pytest.fixture(scope="module")
def thousand_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    repository = tmp_path_factory.mktemp("thousand")
    publish_many_labels(repository, labels=THOUSAND)
    with running_gateway("--repository", str(repository)) as (url, _):
        yield url


@pytest.fixture
def page(browser: Any, thousand_url: str) -> Iterator[Any]:
    with opened_page(browser, thousand_url) as page:
        yield page


def find(page: Any, words: str) -> None:
    page.get_by_role("searchbox", name="Find a label").fill(words)


def test_only_the_tags_and_a_few_more_labels_are_shown(page: Any, photos: list[Path]) -> None:
    pick_done(page, *photos[:2])
    answers = [ask_api(page, photo.read_bytes()) for photo in photos[:2]]
    for photo, answer in zip(photos, answers, strict=False):
        shown = max(8, min(12, len(answer["tags"])) + 4)
        expect(card(page, photo.name).locator(".bar-label")).to_have_text(
            [score["label"] for score in answer["scores"][:shown]]
        )
    open_thresholds(page)
    rows = page.locator(".slider-row:visible .slider-name")
    seen = {entry["label"] for answer in answers for entry in answer["tags"] + answer["scores"][:8]}
    assert set(rows.all_text_contents()) <= seen
    assert rows.count() == min(40, len(seen))
    expect(page.get_by_text(f"{1000 - rows.count()} more labels: find a label to see its threshold.")).to_be_visible()

    slide(page, "All labels", 0)
    expect(card(page, photos[0].name).locator(".chip")).to_have_count(40)
    expect(card(page, photos[0].name).get_by_text("and 960 more tags")).to_be_visible()
    bars = card(page, photos[0].name).locator(".bar").count()
    card(page, photos[0].name).locator("summary").click()
    expect(card(page, photos[0].name).locator(".bar")).to_have_count(200 + bars)
    expect(page.locator("#curl")).to_contain_text('/v1/tag?threshold=0"')
    page.get_by_role("button", name="Reset to the model’s thresholds").click()
    own = [tag["label"] for tag in answers[0]["tags"]]
    expect(card(page, photos[0].name).locator(".chip")).to_have_text(own[:40])


def test_a_search_finds_the_label_of_that_name_first(page: Any, photos: list[Path]) -> None:
    pick_done(page, photos[0])
    page.get_by_role("switch", name="Only tags").check()
    expect(page.locator(".scores")).to_be_hidden()

    find(page, "car")  # also in "carrot", "red car" and others
    score = next(entry for entry in ask_api(page, photos[0].read_bytes())["scores"] if entry["label"] == "car")
    expect(page.locator(".bar-label").first).to_have_text("car")
    assert chromium.read_bars(card(page, photos[0].name))[0][1] == pytest.approx(score["score"], abs=0.005)
    open_thresholds(page)
    expect(page.locator(".slider-row:visible .slider-name").first).to_have_text("car")
    slide(page, "car", 0)
    expect(page.locator(".chip").filter(has_text="car").last).to_be_visible()


def test_a_slider_in_use_stays(page: Any, photos: list[Path]) -> None:
    pick_done(page, photos[0])
    open_thresholds(page)
    find(page, "old zebra")
    slider = page.get_by_role("slider", name="old zebra", exact=True)
    slider.focus()
    chromium.pick(page, photos[1])
    chromium.wait_until_settled(page, 2)

    expect(slider).to_be_focused()
    expect(slider).to_be_visible()


def test_attention_is_asked_for_few_labels_at_once(page: Any, photos: list[Path]) -> None:
    asked: list[dict[str, list[str]]] = []
    page.on(
        "request",
        lambda request: asked.append(parse_qs(urlsplit(request.url).query)) if "/v1/explain" in request.url else None,
    )
    pick_done(page, photos[0])
    shown = card(page, photos[0].name)
    where = shown.locator(".where")
    for at in (0, 5):
        shown.locator(".bar").nth(at).hover()
        expect(where).to_contain_text(f"{shown.locator('.bar-label').nth(at).inner_text()}: ")
    lowest = ask_api(page, photos[0].read_bytes())["scores"][-1]["label"]
    find(page, lowest)
    shown.locator(".bar").first.hover()
    expect(where).to_contain_text(f"{lowest}: ")

    assert [(query.get("top_k"), query.get("labels")) for query in asked] == [(["24"], None), (None, [lowest])]
