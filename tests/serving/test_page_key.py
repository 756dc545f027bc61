"""The page where a key is needed, and the API reference, in a real browser."""

from pathlib import Path
from typing import Any

from serving.keys import add_key
from tests.conftest import running_gateway
from tests.serving import test_page

browser, page = test_page.browser, test_page.page


def test_asks_for_a_key_when_the_server_wants_one(browser: Any, tmp_path: Path, photos: list[Path]) -> None:
    key = add_key(tmp_path / "labelwise.keys", "guest")
    with running_gateway("--keys", str(tmp_path / "labelwise.keys")) as (url, _):
        context = browser.new_context(base_url=url)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.goto("/")
        field = page.get_by_label("This server wants an API key")
        test_page.expect(field).to_be_focused()
        test_page.pick(page, photos[0])
        test_page.expect(test_page.card(page, photos[0].name)).to_have_attribute("data-state", "failed")
        test_page.take_screenshot(page, "needs-a-key")

        field.fill("lw_wrong")
        field.press("Enter")
        test_page.expect(page.get_by_text("This key is not valid here.")).to_be_visible()
        field.fill(key)
        page.get_by_role("button", name="Use this key").click()

        test_page.expect(page.get_by_text("The model scenes knows")).to_be_visible()
        test_page.expect(test_page.card(page, photos[0].name)).to_have_attribute("data-state", "done")
        test_page.expect(field).to_be_hidden()
        test_page.expect(page.locator("#curl")).to_contain_text("Authorization: Bearer YOUR-KEY")
        page.reload()  # the same tab still has it, and a new one does not
        test_page.expect(page.get_by_text("The model scenes knows")).to_be_visible()
        other = context.new_page()
        other.goto("/")
        test_page.expect(other.get_by_label("This server wants an API key")).to_be_visible()
        assert context.cookies() == []
        context.close()


def test_the_api_reference_works_under_its_security_policy(page: Any) -> None:
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.goto("/docs")
    test_page.expect(page.get_by_text("/v1/tag", exact=True)).to_be_visible()
    page.get_by_text("Tag one photo").click()
    test_page.expect(page.get_by_role("button", name="Try it out")).to_be_visible()
    assert complaints == []
