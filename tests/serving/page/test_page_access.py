"""Accessibility of the page: keyboard, axe-core, screen readers, reduced motion and forced colours."""

import re
from pathlib import Path
from typing import Any

from tests.serving import chromium
from tests.serving.chromium import assert_accessible, card, expect, open_thresholds, pick_done, slide, take_screenshot

browser, page = chromium.browser, chromium.page

# The name of the focused element, and whether the focus is visible: the element or its drop zone has an outline.
FOCUS = """() => {
    const focused = document.activeElement;
    const shown = focused.id === "files" ? focused.closest("label") : focused;
    const { outlineStyle, outlineWidth } = getComputedStyle(shown);
    const name = focused.ariaLabel || focused.labels?.[0]?.innerText || focused.innerText || focused.id;
    return [name.trim().split("\\n")[0], outlineStyle !== "none" && parseFloat(outlineWidth) >= 2];
}"""


def press(page: Any, *keys: str) -> str:
    """Presses these keys. Returns the name of the focused element, whose focus must be visible."""
    for key in keys:
        page.keyboard.press(key)
    name, is_seen = page.evaluate(FOCUS)
    assert is_seen, f"the focus on {name!r} is not visible"
    return str(name)


def test_the_keyboard_reaches_everything(page: Any, photos: list[Path]) -> None:
    page.on("filechooser", lambda chooser: None)
    page.reload()  # Playwright may take a moment to catch file choosers; after a reload it does
    expect(page.locator(".label")).not_to_have_count(0)
    assert press(page, "Tab") == "API reference"
    assert press(page, "Tab") == "Drop photos here"
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(photos[2:5])
    chromium.wait_until_settled(page, 3)

    stops = [press(page, "Tab") for _ in range(7)]
    assert stops == [
        *("Only tags", "Clear all", "Copy JSON", "Copy CSV", "Download JSON", "Download CSV", "Thresholds")
    ]
    page.keyboard.press("Enter")
    assert press(page, "Tab") == "All labels"
    assert [press(page, "Tab") for _ in range(5)] == ["desert", "mountains", "sea", "sunset", "trees"]
    first = card(page, photos[2].name)
    expect(first.locator(".chip")).to_have_text(["mountains"])
    press(page, "Home")  # to a threshold of 0, which every score reaches
    expect(first.locator(".chip")).to_have_text(["mountains", "trees"])

    assert press(page, "Tab") == "Reset to the model’s thresholds"
    assert press(page, "Tab") == f"Remove {photos[2].name}"
    assert press(page, "Tab") == "mountains"
    expect(first.locator(".where")).to_contain_text("mountains: ")
    expect(page.get_by_role("log")).to_contain_text("mountains: the model looked")
    assert press(page, "ArrowRight") == "trees"
    expect(first.locator(".where")).to_contain_text("trees: ")
    assert press(page, "End") == "sunset"
    assert press(page, "Home") == "mountains"
    page.keyboard.press("Enter")
    assert press(page, "Tab") == f"Remove {photos[3].name}"
    expect(first.locator(".where")).to_contain_text("mountains: ")  # kept by Enter
    assert press(page, "Shift+Tab") == "mountains"
    page.keyboard.press("Escape")
    expect(first.locator(".where")).to_have_text("")

    assert press(page, "Shift+Tab") == f"Remove {photos[2].name}"
    page.keyboard.press("Enter")
    expect(page.locator(".card")).to_have_count(2)
    assert press(page) == f"Remove {photos[3].name}"


def test_axe_finds_nothing(page: Any, photos: list[Path], tmp_path: Path) -> None:
    no_photo = tmp_path / "diary.jpg"
    no_photo.write_text("Dear diary, this is no photo.")
    expect(page.locator(".label")).not_to_have_count(0)
    assert_accessible_in_both_schemes(page)

    pick_done(page, *photos[1:3], no_photo)
    open_thresholds(page)
    slide(page, "trees", 0.5)
    first = card(page, photos[2].name)
    first.locator(".bar").nth(1).click()
    expect(first.locator(".where")).to_contain_text("trees: ")
    assert_accessible_in_both_schemes(page, "where")
    first.get_by_role("button", name="More like this").click()
    expect(page.get_by_role("region", name="Photos whose trees looks like that of")).to_contain_text("No other photo")
    assert_accessible_in_both_schemes(page, "alike")

    page.route(re.compile("/v[12]/"), lambda route: route.abort("connectionrefused"))
    chromium.pick(page, photos[3])
    expect(page.get_by_role("alert")).to_be_visible()
    assert_accessible_in_both_schemes(page)


def assert_accessible_in_both_schemes(page: Any, picture: str = "") -> None:
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        chromium.wait_until(page, "document.getAnimations().length === 0")  # meanwhile axe would find contrast low
        if picture:
            take_screenshot(page, f"page-{scheme}-{picture}")
        assert_accessible(page)


def test_a_screen_reader_hears_a_few_results_but_not_a_hundred(page: Any, photos: list[Path]) -> None:
    pick_done(page, photos[1])
    expect(page.get_by_role("log").locator("p")).to_have_text([f"{photos[1].name}: desert 0.99."])
    expect(page.get_by_role("toolbar", name=f"Labels of {photos[1].name}")).to_be_visible()
    page.get_by_role("button", name="Clear all").click()

    pick_done(page, *(chromium.as_upload(photos[at % 8], f"{at}.jpg") for at in range(24)))

    expect(page.get_by_role("log").locator("p")).to_have_text(
        [f"{photos[1].name}: desert 0.99.", "All done: 24 photos."]
    )


def test_nothing_moves_with_reduced_motion(page: Any, photos: list[Path]) -> None:
    page.emulate_media(reduced_motion="reduce")
    hold: list[Any] = []
    page.route("**/v1/tag*", lambda route: hold.append(route))

    chromium.pick(page, photos[0])
    expect(page.locator('.card[data-state="sending"]')).to_have_count(1)

    chromium.wait_until(page, "document.getAnimations().filter((one) => one.playState === 'running').length === 0")


def test_bars_and_switches_stay_visible_with_forced_colours(browser: Any, gateway_url: str, photos: list[Path]) -> None:
    """Windows then paints all backgrounds alike, unless an element opts out."""
    with chromium.opened_page(browser, gateway_url, forced_colors="active") as page:
        pick_done(page, photos[1])
        painted = ".chosen .fill", ".mark", ".switch input", ".legend-mark"
        colours = [page.locator(name).first.evaluate("it => getComputedStyle(it).backgroundColor") for name in painted]
        ground = page.locator(".card").evaluate("it => getComputedStyle(it).backgroundColor")
        assert ground not in colours
        take_screenshot(page, "forced-colours")


def test_without_scripts_the_page_shows_the_curl_command(browser: Any, gateway_url: str) -> None:
    with chromium.opened_page(browser, gateway_url, java_script_enabled=False) as page:
        expect(page.locator(".notice")).to_be_visible()
        for name in ("#model", "#dropzone", ".terminal"):  # these need scripts
            expect(page.locator(name)).to_be_hidden()
