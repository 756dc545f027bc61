"""“More like this”: the photos with a tag, those first whose embedding of it is most similar."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.serving import chromium
from tests.serving.chromium import ask_api, card, expect, open_thresholds, pick_done, slide

browser, page = chromium.browser, chromium.page

SHOWN = ".card:not([hidden])"


def names(photos: list[Path]) -> list[str]:
    return [photo.name for photo in photos]


def embed(page: Any, photo: Path) -> np.ndarray:
    [entry] = ask_api(page, photo.read_bytes(), "/v1/embed?labels=sunset")["embeddings"]
    return np.array(entry["values"])


def show_more_like(page: Any, photo: Path) -> None:
    card(page, photo.name).locator(".bar-label", has_text="sunset").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("m")


def test_sorts_the_photos_with_a_tag_by_their_embeddings(page: Any, photos: list[Path]) -> None:
    picked, asked = photos[:8], photos[6]
    likeness = {photo.name: float(embed(page, photo) @ embed(page, asked)) for photo in picked if photo != asked}
    expected = sorted(likeness, key=lambda name: -likeness[name])
    pick_done(page, *picked)
    open_thresholds(page)
    slide(page, "sunset", 0)  # every photo has this tag now

    show_more_like(page, asked)

    panel = page.get_by_role("region", name=f"Photos whose sunset looks like that of {asked.name}")
    expect(panel).to_be_focused()
    expect(panel).to_contain_text("7 other photos with this tag")
    expect(page.locator(f"{SHOWN} .name")).to_have_text([asked.name, *expected])
    said = page.locator(f"{SHOWN} .likeness").all_text_contents()[1:]
    assert [float(text.removeprefix("Similarity of sunset: ")) for text in said] == pytest.approx(
        [likeness[name] for name in expected], abs=0.006
    )

    panel.get_by_role("button", name="trees 2").click()
    trees = [name for name in expected if name in ("sunset-bay-palm.jpg", "trees-forest-stream.jpg")]
    expect(page.locator(f"{SHOWN} .name")).to_have_text([asked.name, *trees])
    slide(page, "trees", 0.9)
    expect(page.locator(f"{SHOWN} .name")).to_have_text([asked.name, "trees-forest-stream.jpg"])

    panel.get_by_role("button", name="trees 1").press("Escape")
    expect(page.locator(f"{SHOWN} .name")).to_have_text(names(picked))
    expect(card(page, asked.name)).to_be_focused()


def test_a_photo_that_cannot_be_compared_comes_last_until_it_can(page: Any, photos: list[Path]) -> None:
    picked, asked = [photos[5], photos[2], photos[6]], photos[6]
    pick_done(page, *picked)
    open_thresholds(page)
    slide(page, "sunset", 0)
    near = photos[5].read_bytes()

    def fail_for_near(route: Any) -> None:
        if route.request.post_data_buffer == near:
            route.fulfill(status=500, body="")
        else:
            route.continue_()

    page.route("**/v1/embed*", fail_for_near)

    show_more_like(page, asked)

    expect(page.locator(f"{SHOWN} .name")).to_have_text(names([photos[6], photos[2], photos[5]]))
    expect(card(page, photos[5].name)).to_contain_text("Not compared")
    expect(page.locator("#alike-status")).to_contain_text("1 photo could not be compared: The server at")
    page.unroute("**/v1/embed*")
    page.get_by_role("button", name="Try again").locator("visible=true").click()

    expect(page.locator(f"{SHOWN} .name")).to_have_text(names([photos[6], photos[5], photos[2]]))
    page.get_by_role("button", name=f"Remove {asked.name}").click()
    expect(page.locator("#alike")).to_be_hidden()
    expect(page.locator(f"{SHOWN} .name")).to_have_text(names([photos[5], photos[2]]))
