"""Marking photos, teaching their label, and corrections, with a gateway that lets the page do this."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, only_in_fp32, running_gateway
from tests.serving import chromium
from tests.serving.chromium import assert_accessible, card, expect, opened_page, pick_done, take_screenshot

browser, page = chromium.browser, chromium.page

LESSON = 60_000  # milliseconds


@pytest.fixture(scope="module")
def teaching_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("teaching")
    shutil.copytree(only_in_fp32("everyday"), folder / "repository")
    flags = "--teach", "--feedback", str(folder / "feedback.db")
    with running_gateway("--repository", str(folder / "repository"), *flags) as (url, _):
        yield url


@pytest.fixture
def teaching_page(browser: Any, teaching_url: str) -> Iterator[Any]:
    with opened_page(browser, teaching_url) as page:
        yield page


def assert_accessible_in_both_schemes(page: Any, name: str) -> None:
    for scheme in ("dark", "light"):
        page.emulate_media(color_scheme=scheme)
        chromium.wait_until(page, "document.getAnimations().length === 0")  # during a transition, contrast is low
        assert_accessible(page)
    take_screenshot(page, name)


def press(page: Any, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def press_until(page: Any, key: str, name: str) -> None:
    """Presses `key` until the focus is on the element that begins with `name`."""
    for _ in range(12):
        page.keyboard.press(key)
        if page.evaluate("document.activeElement.innerText").startswith(name):
            return
    raise AssertionError(f"{key} does not lead to {name}")


def test_a_visitor_who_may_not_teach_sees_nothing_of_it(page: Any, photos: list[Path]) -> None:
    pick_done(page, photos[0])

    for name in ("#teach", "#learned", "#kept", ".legend-keys", ".fix", ".add-tag", ".marker"):
        expect(page.locator(name).first).to_be_hidden()
    card(page, photos[0].name).locator(".see").first.press("n")
    expect(page.locator("[data-kind=removed]")).to_have_count(0)


def test_the_keyboard_alone_marks_teaches_judges_and_undoes(teaching_page: Any) -> None:
    page = teaching_page
    outside = sorted((ROOT / "tests/assets/photos").glob("[dmst]*.jpg"))
    inside = sorted((ROOT / "tests/assets/photos-everyday").glob("*.jpg"))
    pick_done(page, *outside, *inside)
    page.locator("#thresholds summary").focus()
    press(page, "Tab", "Enter", "Tab")
    page.keyboard.type("Open country")
    press(page, "Enter", *"yyyyyy", "ArrowRight", "n", "u")
    expect(page.locator("#mark-counts")).to_have_text("Open country: 6 yes, 1 no.")
    expect(page.get_by_text("Still needed: at least 2 no.")).to_be_visible()
    expect(page.get_by_role("button", name="Teach", exact=True)).to_be_disabled()
    press(page, *"nnn")
    assert_accessible_in_both_schemes(page, "page-marking")

    page.route("**/v1/teach*", lambda route: route.fulfill(status=500, json={"detail": "No."}), times=1)
    press(page, "Shift+Tab", "Enter")
    expect(page.locator("#teach-status")).to_have_text("No.")
    expect(page.locator("#mark-counts")).to_have_text("Open country: 6 yes, 4 no.")
    press(page, "Enter")
    learned = page.get_by_role("region", name="Learned: Open country")
    expect(learned).to_be_focused(timeout=LESSON)
    expect(learned).to_contain_text("From 6 photos with it and 4 without. Version 2 of everyday has it")
    expect(learned.get_by_role("listitem").filter(has_text="Order")).to_contain_text("±")
    expect(page.get_by_text("The model everyday knows 285 labels")).to_be_visible()
    expect(learned.get_by_role("button", name="Judge the 2 most doubtful photos next")).to_be_visible()
    assert_accessible_in_both_schemes(page, "page-learned")
    newer = {"models": [{"name": "everyday", "version": 9, "labels": []}]}  # for Undo; a new route needs a moment
    page.route("**/v1/models", lambda route: route.fulfill(json=newer), times=1)
    press_until(page, "Tab", "Judge")
    press(page, "Enter")
    expect(page.locator(".card:not([hidden])")).to_have_count(2)
    expect(page.locator(".card:not([hidden]) .score-note")).to_have_text([re.compile(r"^0\.\d\d$")] * 2)

    press_until(page, "Shift+Tab", "Undo")
    press(page, "Enter")
    expect(learned).to_contain_text("Not undone: version 9 was published since, and would be lost, too.")
    press(page, "Enter")
    expect(page.locator("#teach-status")).to_contain_text("Undone: version 3 is the same as version 1.", timeout=LESSON)
    expect(learned).to_be_hidden()
    expect(page.get_by_text("The model everyday knows 284 labels")).to_be_visible()
    chromium.wait_until_settled(page, 12)
    expect(page.locator("#mark-counts")).to_have_text("Open country: 6 yes, 4 no.")


def counted(page: Any) -> dict[str, tuple[int, int]]:
    labels = page.request.get("/v1/feedback").json()["labels"]
    return {entry["label"]: (entry["yes"], entry["no"]) for entry in labels}


def test_corrections_of_tags_reach_the_store(teaching_page: Any, photos: list[Path]) -> None:
    page = teaching_page
    pick_done(page, photos[3], photos[0])
    shown = card(page, photos[3].name)
    shown.get_by_role("button", name="mountain", exact=True).first.focus()
    press(page, "Delete")
    expect(shown.get_by_role("button", name="Put the tag mountain back")).to_be_visible()
    shown.get_by_role("button", name="Add a tag").press("Enter")
    page.keyboard.type("alpine path, VALLEY")
    with page.expect_request("**/v1/feedback?*") as sent:
        press(page, "Enter")
    assert re.search(r"\bmodel=everyday&version=\d", sent.value.url)
    expect(shown.get_by_role("button", name="Add a tag")).to_be_focused()
    expect(page.get_by_text("The server keeps 3 answers of yours.")).to_be_visible()
    assert counted(page) | {"mountain": (0, 1), "alpine path": (1, 0), "valley": (1, 0)} == counted(page)
    assert_accessible_in_both_schemes(page, "page-corrections")
    page.get_by_role("button", name="Copy JSON").click()
    copied = json.loads(page.evaluate("navigator.clipboard.readText()"))[0]
    tags = {tag["label"]: tag for tag in copied["tags"]}
    assert copied["removed"] == ["mountain"]
    assert "mountain" not in tags
    assert tags["alpine path"] == {"label": "alpine path", "by": "person"}
    assert tags["valley"]["score"] < tags["valley"]["threshold"]

    page.route("**/v1/feedback*", lambda route: route.fulfill(status=500, json={"detail": "The disk is full."}))
    shown.get_by_role("button", name="Put the tag mountain back").click()
    shown.get_by_role("button", name="Remove the tag alpine path").click()
    expect(page.get_by_text("2 answers could not be sent: The disk is full.")).to_be_visible()
    page.unroute("**/v1/feedback*")
    shown.get_by_role("button", name="Remove the tag mountain").click()  # so the earlier answer is not to be sent
    expect(page.get_by_text("1 answer could not be sent: The disk is full.")).to_be_visible()
    page.get_by_role("button", name="Send again").click()
    expect(page.locator("#kept-status")).to_have_text("The server keeps 3 answers of yours.")
    assert counted(page) | {"mountain": (0, 1), "alpine path": (0, 1)} == counted(page)
