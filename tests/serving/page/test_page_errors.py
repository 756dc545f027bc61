"""What the page shows if a photo, the server or the connection fails."""

import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.conftest import free_port, running_gateway, scenes_only
from tests.serving import chromium
from tests.serving.chromium import ask_api, card, expect, opened_page, pick, pick_done, take_screenshot
from tests.serving.publishing import publish_next

browser, page = chromium.browser, chromium.page


@pytest.fixture(scope="module")
def strict_url() -> Iterator[str]:
    """A gateway that accepts one small photo at a time."""
    with running_gateway(max_requests="1", max_body="120000", max_pixels="1000000", threads="1") as (url, _):
        yield url


def test_each_refused_file_shows_why_and_the_others_are_tagged(
    browser: Any, strict_url: str, photos: list[Path], tmp_path: Path
) -> None:
    no_photo, heavy, wide, cut = (tmp_path / name for name in ("diary.jpg", "heavy.jpg", "wide.png", "cut.jpg"))
    no_photo.write_text("Dear diary, this is no photo.")
    heavy.write_bytes(photos[0].read_bytes() + bytes(120_000))
    Image.new("L", (2000, 1000)).save(wide)
    cut.write_bytes(photos[1].read_bytes()[:9_000])

    with opened_page(browser, strict_url) as page:
        statuses: dict[str, int] = {}
        pick_done(page, photos[0], no_photo, heavy, wide, cut, photos[1])

        for file in (no_photo, heavy, wide, cut):
            refused = card(page, file.name)
            problem = ask_api(page, file.read_bytes())
            statuses[problem["code"]] = problem["status"]
            expect(refused.locator(".status")).to_contain_text(problem["detail"])
            expect(refused.get_by_text(re.compile(r"^Request [0-9a-f]{32}$"))).to_be_visible()
            expect(refused.get_by_role("button", name=f"Try {file.name} again")).to_be_visible()
        codes = {"image_format_unsupported": 415, "body_too_large": 413, "image_too_many_pixels": 413}
        assert statuses == codes | {"image_broken": 422}
        expect(page.get_by_role("heading", name="6 photos, 2 done, 4 failed")).to_be_visible()
        take_screenshot(page, "page-refused")


def test_a_busy_server_gets_all_photos_one_after_the_other(browser: Any, strict_url: str, photos: list[Path]) -> None:
    with opened_page(browser, strict_url) as page:
        statuses: list[int] = []
        page.on("response", lambda response: statuses.append(response.status) if "/v1/tag" in response.url else None)

        pick_done(page, *(chromium.as_upload(photos[at % 8], f"{at}.jpg") for at in range(12)))

        expect(page.locator('.card[data-state="done"]')).to_have_count(12)
        assert statuses.count(429) >= 1
        assert statuses.count(200) == 12


def test_waits_as_long_as_retry_after_says(page: Any, photos: list[Path]) -> None:
    busy = {"status": 429, "headers": {"Retry-After": "1"}, "json": {"detail": "Too much to do.", "request_id": "abc"}}
    page.route("**/v1/tag*", lambda route: route.fulfill(**busy), times=1)

    pick(page, photos[0])

    expect(page.get_by_text("Too much to do. Trying again in 1 s")).to_be_visible()
    expect(card(page, photos[0].name)).to_have_attribute("data-state", "waiting")
    expect(card(page, photos[0].name)).to_have_attribute("data-state", "done")


def test_does_not_wait_for_an_hour(page: Any, photos: list[Path]) -> None:
    busy = {"status": 503, "headers": {"Retry-After": "3600"}, "json": {"detail": "Closed.", "request_id": "abc"}}
    page.route("**/v1/tag*", lambda route: route.fulfill(**busy), times=1)
    pick_done(page, photos[0])
    expect(card(page, photos[0].name)).to_contain_text("Closed.")

    card(page, photos[0].name).get_by_role("button", name="again").click()

    expect(card(page, photos[0].name)).to_have_attribute("data-state", "done")


def test_photos_wait_for_a_server_that_restarts(browser: Any, photos: list[Path]) -> None:
    port = str(free_port())
    with ExitStack() as stack:
        with running_gateway("--port", port) as (url, _):
            page = stack.enter_context(opened_page(browser, url))
            pick_done(page, photos[0])

        pick(page, *photos[1:6])
        expect(page.get_by_role("alert")).to_contain_text("The server cannot be reached.")
        expect(page.locator('.card[data-state="waiting"]')).to_have_count(3)
        expect(page.locator('.card[data-state="queued"]')).to_have_count(2)
        take_screenshot(page, "page-server-away")

        with running_gateway("--port", port):
            expect(page.locator('.card[data-state="done"]')).to_have_count(6)
            expect(page.get_by_role("alert")).to_be_hidden()


def test_loads_the_labels_once_the_server_starts(page: Any) -> None:
    page.route(re.compile("/v[12]/"), lambda route: route.abort("connectionrefused"))
    page.reload()
    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.locator(".label")).to_have_count(0)

    page.unroute(re.compile("/v[12]/"))
    page.get_by_role("button", name="Check now").click()

    expect(page.locator(".label")).not_to_have_count(0)
    expect(page.get_by_role("alert")).to_be_hidden()


def test_a_connection_that_breaks_for_one_photo_fails_that_photo(page: Any, photos: list[Path]) -> None:
    page.route("**/v1/tag*", lambda route: route.abort("connectionreset"), times=4)

    pick_done(page, photos[0])

    expect(card(page, photos[0].name)).to_contain_text("The connection broke each time this was sent.")


def test_reports_a_file_that_changed_on_the_disk(page: Any, photos: list[Path], tmp_path: Path) -> None:
    page.route("**/v1/tag*", lambda route: route.fulfill(status=500, body=""), times=1)
    gone = tmp_path / "gone.jpg"
    gone.write_bytes(photos[0].read_bytes())
    pick_done(page, gone)

    gone.unlink()
    page.get_by_role("button", name="Try gone.jpg again").click()

    expect(card(page, "gone.jpg")).to_contain_text("This file cannot be read")


def test_reports_an_answer_that_is_not_json(page: Any, photos: list[Path]) -> None:
    page.route("**/v1/tag*", lambda route: route.fulfill(status=200, body="<h1>Please log in</h1>"))

    pick(page, photos[0])

    expect(card(page, photos[0].name).get_by_text("does not understand (status 200)")).to_be_visible()


@pytest.mark.parametrize("models", [{"scenes": {}}, [{"name": "scenes"}]])
def test_a_list_of_models_that_it_does_not_understand_can_be_asked_for_again(page: Any, models: Any) -> None:
    page.route("**/v1/models", lambda route: route.fulfill(json={"models": models}), times=1)
    page.reload()
    expect(page.get_by_text("does not understand (status 200)")).to_be_visible()

    page.get_by_role("button", name="Try again").click()

    expect(page.get_by_text("The model scenes knows")).to_be_visible()


def test_retries_all_failed_photos_with_one_click(page: Any, photos: list[Path]) -> None:
    page.route("**/v1/tag*", lambda route: route.fulfill(status=500, body=""), times=3)
    pick_done(page, *photos[:3])
    expect(page.get_by_role("heading", name="3 photos, 0 done, 3 failed")).to_be_visible()

    page.get_by_role("button", name="Retry failed").click()

    expect(page.get_by_role("heading", name="3 photos", exact=True)).to_be_visible()
    expect(page.get_by_role("button", name="Retry failed")).to_be_hidden()


def test_notices_a_version_published_in_the_meantime(browser: Any, photos: list[Path], tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    shutil.copytree(scenes_only(), repository)
    with (
        running_gateway("--repository", str(repository), reload_interval="0.2") as (url, _),
        opened_page(browser, url) as page,
    ):
        pick_done(page, photos[0])
        expect(card(page, photos[0].name)).to_contain_text("Tagged by scenes, version 1")
        publish_next(repository)
        for _ in range(200):
            if page.request.get("/v1/models/scenes").json()["version"] == 2:
                break
            page.wait_for_timeout(100)

        with page.expect_request("**/v1/models"):  # its thresholds may differ
            pick(page, photos[1])

        expect(card(page, photos[1].name)).to_contain_text("Tagged by scenes, version 2")
