"""Threshold sliders, copied and downloaded results, and models with many labels."""

import csv
import io
import json
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import running_gateway
from tests.labelwise.tagging_cases import Case, every_case
from tests.polling import PATIENCE
from tests.serving import chromium
from tests.serving.chromium import ask_api, card, expect, open_thresholds, opened_page, pick_done, slide
from tests.serving.many_labels import LABELS, publish_many_labels

browser, page = chromium.browser, chromium.page


@pytest.fixture(scope="module")
def many_labels_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    repository = tmp_path_factory.mktemp("many")
    publish_many_labels(repository)
    with running_gateway("--repository", str(repository)) as (url, _):
        yield url


def copied(page: Any, button: str) -> str:
    page.get_by_role("button", name=button).click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    text: str = page.evaluate("navigator.clipboard.readText()")
    return text


def saved(page: Any, button: str) -> bytes:
    with page.expect_download() as download:
        page.get_by_role("button", name=button).click()
    path = download.value.path()
    assert path.suffix == ""
    assert download.value.suggested_filename in ("tags.json", "tags.csv")
    return bytes(path.read_bytes())


def test_sliders_give_the_servers_tags_without_a_request(page: Any, photos: list[Path]) -> None:
    pick_done(page, *photos[:6])
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url))
    open_thresholds(page)

    slide(page, "trees", 0.02)
    slide(page, "mountains", 0.99)

    expected = [
        ask_api(page, photo.read_bytes(), "/v1/tag?scores=all&threshold=trees:0.02,mountains:0.99")
        for photo in photos[:6]
    ]
    for photo, answer in zip(photos, expected, strict=False):
        tags = [tag["label"] for tag in answer["tags"]]
        shown = card(page, photo.name)
        expect(shown.locator(".chip")).to_have_text(tags)
        expect(shown.locator(".chosen .bar-label")).to_have_text(tags)
        thresholds = {label: threshold for label, _, threshold in chromium.read_bars(shown)}
        assert (thresholds["trees"], thresholds["mountains"]) == (0.02, 0.99)
    count = sum(any(tag["label"] == "trees" for tag in answer["tags"]) for answer in expected)
    assert 1 <= count < 6
    expect(page.locator(".slider-row").filter(has_text="trees")).to_contain_text(f"0.02{count} photo")
    assert [url for url in sent if "/v1/" in url] == []

    page.get_by_role("button", name="Reset to the model’s thresholds").click()
    for photo in photos[:6]:
        own = [tag["label"] for tag in ask_api(page, photo.read_bytes())["tags"]]
        expect(card(page, photo.name).locator(".chip")).to_have_text(own)


@pytest.fixture(scope="module")
def rules(browser: Any, gateway_url: str) -> Iterator[Any]:
    """A page whose script tests call, one after the other."""
    with opened_page(browser, gateway_url) as page:
        yield page


@every_case
def test_slid_thresholds_follow_the_rule_of_the_server(rules: Any, case: Case) -> None:
    """The page gets rounded scores, highest first, and applies its thresholds to them."""
    ranked = [{"label": label, "score": score, "threshold": 1 - score} for label, score in case.ranked]
    tags = rules.evaluate(
        """async ([scores, thresholds]) => {
            const { judge, slideThreshold } = await import("/page/thresholds.js");
            for (const [label, threshold] of thresholds) slideThreshold("case", label, threshold);
            return judge({ model: "case", scores }).tags;
        }""",
        [ranked, list(zip(case.spec.labels, case.spec.thresholds, strict=True))],
    )
    assert [tag["label"] for tag in tags] == case.tags


def test_one_slider_moves_all_thresholds_also_for_later_photos(page: Any, photos: list[Path]) -> None:
    pick_done(page, photos[0])
    open_thresholds(page)

    slide(page, "All labels", 0)
    expect(card(page, photos[0].name).locator(".chip")).to_have_count(5)
    slide(page, "All labels", 1)
    chromium.pick(page, photos[1])

    expect(card(page, photos[1].name)).to_have_attribute("data-state", "done")
    none = "Tagged by scenes, version 1: no label reaches its threshold."
    expect(card(page, photos[1].name).locator(".status")).to_have_text(none)
    expect(page.locator(".chip")).to_have_count(0)


def test_the_curl_command_gives_the_tags_of_the_page(page: Any, photos: list[Path]) -> None:
    pick_done(page, photos[2])
    open_thresholds(page)
    slide(page, "trees", 0.02)
    expect(page.locator("#curl")).to_contain_text('/v1/tag?threshold=trees:0.02"')
    command = page.locator("#curl").inner_text()

    answer = subprocess.run(
        shlex.split(command.replace("photo.jpg", str(photos[2]))), capture_output=True, check=True, timeout=PATIENCE
    )

    tags = [tag["label"] for tag in json.loads(answer.stdout)["tags"]]
    assert "trees" in tags
    expect(page.locator(".chip")).to_have_text(tags)


def test_copies_and_downloads_json_and_csv(page: Any, photos: list[Path]) -> None:
    names = [photos[0].name, photos[4].name, '=1+1, "so".jpg']
    pick_done(page, *map(chromium.as_upload, (photos[0], photos[4], photos[5]), names))
    open_thresholds(page)
    slide(page, "mountains", 0.03)
    answers = [
        ask_api(page, photo.read_bytes(), "/v1/tag?scores=all&threshold=mountains:0.03")
        for photo in (photos[0], photos[4], photos[5])
    ]

    results = json.loads(copied(page, "Copy JSON"))
    assert results == json.loads(saved(page, "Download JSON"))
    assert [result["file"] for result in results] == names
    for result, answer in zip(results, answers, strict=True):
        assert {**result, "request_id": ""} == {"file": result["file"], **answer, "request_id": ""}

    expect(page.get_by_role("button", name="Copied")).to_be_hidden()
    text = copied(page, "Copy CSV")
    assert saved(page, "Download CSV").decode("utf-8-sig") == text
    rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    assert list(rows[0])[:3] == ["path", "tags", "scores.desert"]
    assert [row["path"] for row in rows] == [*names[:2], f"'{names[2]}"]
    for row, answer in zip(rows, answers, strict=True):
        assert row["tags"] == ";".join(tag["label"] for tag in answer["tags"])
        assert {label["label"]: float(row[f"scores.{label['label']}"]) for label in answer["scores"]} == {
            label["label"]: label["score"] for label in answer["scores"]
        }
        assert (row["model"], row["version"]) == ("scenes", "1")


def test_many_labels_are_folded_away_and_can_be_searched(
    browser: Any, many_labels_url: str, photos: list[Path]
) -> None:
    with opened_page(browser, many_labels_url, viewport={"width": 360, "height": 800}) as page:
        expect(page.get_by_text(f"knows {len(LABELS)} labels")).to_be_visible()
        pick_done(page, *photos[:2])
        first = card(page, photos[0].name)
        scores = [score["label"] for score in ask_api(page, photos[0].read_bytes())["scores"]]
        shown = first.locator(".bar").count()
        assert 8 <= shown <= 16
        expect(first.locator(".bar-label")).to_have_text(scores[:shown])
        chromium.take_screenshot(page, "page-many-labels-360")

        first.get_by_text(f"{len(LABELS) - shown} more").click()
        expect(first.locator(".bar-label")).to_have_text(scores)

        page.get_by_role("searchbox", name="Find a label").fill("BEAR")
        for at in range(2):
            expect(card(page, photos[at].name).locator(".bar")).to_have_count(2)
        expect(page.locator(".bar-label").filter(has_text="teddy bear")).to_have_count(2)
        open_thresholds(page)
        expect(page.locator(".slider-row:visible .slider-name")).to_have_text(["bear", "teddy bear"])
        slide(page, "teddy bear", 0)
        expect(page.locator(".chip").filter(has_text="teddy bear")).to_have_count(2)

        page.get_by_role("searchbox", name="Find a label").fill("unicorn")
        expect(page.get_by_text("No such label.")).to_have_count(2)
        page.get_by_role("searchbox", name="Find a label").fill("")
        expect(first.locator(".bar-label").first).to_have_text(scores[0])
        page.set_viewport_size({"width": 1100, "height": 800})
        chromium.take_screenshot(page, "page-many-labels")
        assert page.evaluate("document.documentElement.scrollWidth") <= 1100


def test_unfolded_labels_have_the_current_thresholds(browser: Any, many_labels_url: str, photos: list[Path]) -> None:
    """Labels contain commas, colons and HTML tags; the curl command still works."""
    with opened_page(browser, many_labels_url) as page:
        pick_done(page, photos[0])
        open_thresholds(page)
        lowest = ask_api(page, photos[0].read_bytes())["scores"][-1]["label"]
        named = [lowest, *(label for label in LABELS if "," in label or "<" in label)]
        for label in named:
            page.get_by_role("searchbox", name="Find a label").fill(label)
            slide(page, label, 0)
        page.get_by_role("searchbox", name="Find a label").fill("")

        answer = subprocess.run(
            shlex.split(page.locator("#curl").inner_text().replace("photo.jpg", str(photos[0]))),
            capture_output=True,
            check=True,
            timeout=PATIENCE,
        )
        tags = [tag["label"] for tag in json.loads(answer.stdout)["tags"]]
        assert set(named) <= set(tags)
        expect(page.locator(".chip")).to_have_text(tags)
        page.locator(".card summary").click()
        expect(page.locator(".bar.chosen .bar-label")).to_have_text(tags)
        expect(page.locator(".bar")).to_have_count(len(LABELS))
