"""The page of a gateway that needs a key, and the API reference, in a real browser."""

from pathlib import Path
from typing import Any

from serving.gateway.access.keys import add_key
from tests.conftest import running_gateway
from tests.serving import chromium
from tests.serving.chromium import card, expect, opened_page, pick, take_screenshot

browser, page = chromium.browser, chromium.page


def test_asks_for_a_key_if_the_server_needs_one(browser: Any, tmp_path: Path, photos: list[Path]) -> None:
    key = add_key(tmp_path / "labelwise.keys", "guest")
    with (
        running_gateway("--keys", str(tmp_path / "labelwise.keys")) as (url, _),
        opened_page(browser, url) as page,
    ):
        field = page.get_by_label("This server needs an API key")
        expect(field).to_be_focused()
        pick(page, photos[0])
        expect(card(page, photos[0].name)).to_have_attribute("data-state", "waiting")
        take_screenshot(page, "page-needs-a-key")

        field.fill("lw_wrong")
        field.press("Enter")
        expect(page.get_by_text("This key is not valid.")).to_be_visible()
        field.fill(key)
        page.get_by_role("button", name="Use this key").click()

        expect(page.get_by_text("The model scenes knows")).to_be_visible()
        expect(card(page, photos[0].name)).to_have_attribute("data-state", "done")
        expect(field).to_be_hidden()
        expect(page.locator("#curl")).to_contain_text("Authorization: Bearer YOUR-KEY")
        page.reload()  # the same tab keeps the key, and a new tab does not have it
        expect(page.get_by_text("The model scenes knows")).to_be_visible()
        other = page.context.new_page()
        other.goto("/")
        expect(other.get_by_label("This server needs an API key")).to_be_visible()
        assert page.context.cookies() == []


def test_the_api_reference_works_under_its_security_policy(page: Any) -> None:
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.goto("/docs")
    expect(page.get_by_text("/v1/tag", exact=True)).to_be_visible()
    page.get_by_text("Tag one photo").click()
    expect(page.get_by_role("button", name="Try it out")).to_be_visible()
    assert complaints == []
