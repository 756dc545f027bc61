"""The web page in a real browser, and the steps that its tests share."""

import json
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

sync_api = pytest.importorskip("playwright.sync_api", reason="the page's tests need: pip install playwright")
expect = sync_api.expect
expect.set_options(timeout=60_000)  # milliseconds: two cores may be busy

SCREENSHOTS = ROOT / "test-output"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--process-per-site",  # a second page of the same address starts in half the time
]
COUNT_OBJECT_URLS = """
    window.objectUrls = new Set();
    const { createObjectURL, revokeObjectURL } = URL;
    URL.createObjectURL = (blob) => { const url = createObjectURL(blob); objectUrls.add(url); return url; };
    URL.revokeObjectURL = (url) => { objectUrls.delete(url); revokeObjectURL(url); };
"""


# Per module, not per session: Playwright's event loop on this thread would break asyncio.run() in other modules.
@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    chromium = next(filter(None, map(shutil.which, NAMES)), None)
    if chromium is None:
        pytest.skip("the page's tests need Chromium: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any, gateway_url: str) -> Iterator[Any]:
    with opened_page(browser, gateway_url) as page:
        yield page


@contextmanager
def opened_page(browser: Any, url: str, **options: Any) -> Iterator[Any]:
    """The page in a new tab, or with `options` in a profile of its own.

    The test fails if a script fails or the page breaks its security policy.
    """
    profile = new_profile(browser, url, **options) if options else shared_profile(browser, url)
    page = profile.new_page()
    page.set_default_timeout(60_000)
    failures: list[str] = []
    page.on("pageerror", lambda error: failures.append(str(error)))
    page.on("console", lambda message: failures.append(message.text) if "Content Security" in message.text else None)
    page.add_init_script(COUNT_OBJECT_URLS)
    page.goto("/")
    yield page
    profile.close() if options else page.close()
    assert failures == []


def new_profile(browser: Any, url: str, **options: Any) -> Any:
    return browser.new_context(base_url=url, permissions=["clipboard-read", "clipboard-write"], **options)


@cache
def shared_profile(browser: Any, url: str) -> Any:
    """The profile for all pages of a gateway, which keep nothing beyond their tabs."""
    profile = new_profile(browser, url)
    profile.new_page().goto("/v2/health/live")  # this tab keeps the site's process
    return profile


def ask_api(page: Any, photo: bytes, path: str = "/v1/tag?scores=all") -> dict[str, Any]:
    response = page.request.post(path, data=photo, headers={"Content-Type": "image/jpeg"})
    answer: dict[str, Any] = response.json()
    return answer


def pick(page: Any, *files: Any) -> None:
    page.get_by_label("Drop photos here").set_input_files(list(files))


def pick_done(page: Any, *files: Any) -> None:
    """Picks photos on an empty page, and waits until each is tagged or has failed."""
    pick(page, *files)
    wait_until_settled(page, len(files))


def as_upload(path: Path, name: str) -> dict[str, Any]:
    """The photo under another name, in the form that Playwright accepts."""
    return {"name": name, "mimeType": "image/jpeg", "buffer": path.read_bytes()}


def card(page: Any, name: str) -> Any:
    return page.locator(".card").filter(has=page.get_by_role("heading", name=name, exact=True))


def wait_until_settled(page: Any, cards: int) -> None:
    expect(page.locator('.card:is([data-state="done"], [data-state="failed"])')).to_have_count(cards)


def wait_until(page: Any, condition: str) -> None:
    """Waits until the JavaScript `condition` holds. Playwright's own way needs `eval`, which the policy forbids."""
    deadline = time.monotonic() + 20
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, f"not within 20 s: {condition}"
        page.wait_for_timeout(50)


def open_thresholds(page: Any) -> None:
    page.locator("#thresholds summary").click()


def slide(page: Any, label: str, threshold: float) -> None:
    page.get_by_role("slider", name=label, exact=True).fill(str(threshold))


def read_bars(card: Any) -> list[tuple[str, float, float]]:
    labels = card.locator(".bar-label").all_text_contents()  # not inner texts: elements out of sight have none
    rows = zip(labels, card.locator(".bar-numbers").all_text_contents(), strict=True)
    numbers = re.compile(r"(\d\.\d+), threshold (\d\.\d+)")
    return [(label, *map(float, numbers.fullmatch(text).groups())) for label, text in rows]  # type: ignore[union-attr]


def assert_accessible(page: Any) -> None:
    """Skips the rest of the test where axe-core is not installed."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="pip install axe-playwright-python")
    violations = axe.Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    told = [(found["id"], found["help"], [node["html"] for node in found["nodes"][:3]]) for found in violations]
    assert told == [], json.dumps(told, indent=1)


def take_screenshot(page: Any, name: str) -> None:
    """Takes a picture in a window as high as the page: parts out of sight are neither drawn nor animated."""
    window = page.viewport_size
    page.set_viewport_size(window | {"height": page.evaluate("document.documentElement.scrollHeight")})
    page.set_viewport_size(window | {"height": page.evaluate("document.documentElement.scrollHeight")})
    page.evaluate("scrollTo(0, 0)")
    page.evaluate(
        """Promise.race([
            new Promise((resolve) => setTimeout(resolve, 1000)),
            Promise.allSettled(document.getAnimations().map((animation) => animation.finished)),
        ])"""
    )
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True, timeout=60_000)
    page.set_viewport_size(window)
