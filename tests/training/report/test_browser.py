"""The report in a real browser: its one script, both colour schemes, and the width of a phone."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.training.report.conftest import relabelled, untrained_run
from training.config import TrainConfig
from training.data.labelled_data import LabelledData
from training.report.page import write_report

sync_api = pytest.importorskip("playwright.sync_api", reason="the report's browser tests need: pip install playwright")
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
LABELS = (
    "b",
    "<b>bold</b>",
    "a",
    "so long a name that it has no room on a phone",
    "Donaudampfschifffahrtsgesellschaft",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    chromium = next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    if chromium is None:
        pytest.skip("the report's browser tests need Chromium: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(config: TrainConfig, data: LabelledData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    changed = relabelled(data, LABELS)
    return write_report(untrained_run(tmp_path_factory.mktemp("browser"), config, changed), changed)


@pytest.fixture(params=["light", "dark"])
def page(browser: Any, report: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The report at a phone's width; a test fails if the page complains or asks for anything."""
    page = browser.new_page(viewport={"width": 360, "height": 800}, color_scheme=request.param)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda asked: None if asked.url.startswith(("file:", "data:")) else complaints.append(asked.url))
    page.goto(report.as_uri())
    page.scheme = request.param
    yield page
    page.close()
    assert complaints == []


def test_it_fits_a_phone_and_follows_the_scheme(page: Any) -> None:
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    ink = page.evaluate("getComputedStyle(document.querySelector('figure svg text')).fill")
    brightness = [sum(map(int, colour.strip("rgb()").split(","))) for colour in (ground, ink)]
    assert (brightness[0] > brightness[1]) == (page.scheme == "light")


def test_a_click_on_a_head_sorts_the_table(page: Any) -> None:
    rows = page.locator("#label-table tbody tr")

    def column(number: int) -> list[str]:
        return [row.locator("th, td").nth(number).inner_text() for row in rows.all()]

    assert column(0) == list(LABELS)
    page.get_by_role("button", name="Label").click()
    assert column(0) == sorted(LABELS, key=str.lower)
    train = page.get_by_role("columnheader", name="In train")
    train.get_by_role("button").click()
    assert train.get_attribute("aria-sort") == "descending"
    counts = list(map(int, column(1)))
    assert counts == sorted(counts, reverse=True)
    assert len(set(counts)) > 1
    train.get_by_role("button").click()
    assert list(map(int, column(1))) == sorted(counts)
