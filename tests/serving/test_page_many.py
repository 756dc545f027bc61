"""Many photos: a few requests at a time, little memory, and nothing left behind."""

from pathlib import Path
from typing import Any

from tests.serving import chromium
from tests.serving.chromium import as_upload, expect, pick, pick_done

browser, page = chromium.browser, chromium.page


def test_sends_many_photos_in_order_and_few_at_once(page: Any, photos: list[Path]) -> None:
    in_flight, most, sent = 0, 0, 0

    def count(request: Any, change: int) -> None:
        nonlocal in_flight, most, sent
        if "/v1/tag" in request.url:
            in_flight += change
            most = max(most, in_flight)
            sent += change > 0

    page.on("request", lambda request: count(request, 1))
    page.on("requestfinished", lambda request: count(request, -1))

    pick_done(page, *photos[:8])

    expect(page.locator(".card .name")).to_have_text([photo.name for photo in photos[:8]])
    assert sent == 8
    assert 1 <= most <= 3


def test_the_progress_is_shown_while_there_is_any(page: Any, photos: list[Path]) -> None:
    hold: list[Any] = []
    page.route("**/v1/tag*", lambda route: hold.append(route))
    pick(page, *photos[:4])
    expect(page.get_by_role("progressbar", name="Photos tagged")).to_be_visible()
    expect(page.get_by_role("heading", name="4 photos, 0 done")).to_be_visible()
    expect(page.get_by_role("button", name="Copy CSV")).to_be_disabled()

    expect(page.locator('.card[data-state="sending"]')).to_have_count(3)
    for route in hold[:3]:
        route.fulfill(status=500, body="")
    expect(page.locator('.card[data-state="failed"]')).to_have_count(3)
    hold[3].continue_()

    expect(page.get_by_role("heading", name="4 photos, 1 done, 3 failed")).to_be_visible()
    expect(page.get_by_role("progressbar")).to_be_hidden()
    expect(page.get_by_role("button", name="Copy CSV")).to_be_enabled()


def test_pictures_are_made_near_the_window_only_and_given_back(page: Any, photos: list[Path]) -> None:
    page.set_viewport_size({"width": 1000, "height": 700})
    pick_done(page, *(as_upload(photos[at % 8], f"{at}.jpg") for at in range(60)))
    expect(page.locator(".card img[src]").nth(2)).to_be_attached()
    chromium.wait_until(page, "objectUrls.size === 0")
    made = page.locator(".card img[src]").count()
    assert 3 <= made < 30
    size = page.locator(".card img").first.evaluate("(image) => [image.naturalWidth, image.naturalHeight]")
    assert 1 < max(size) <= 720

    page.locator(".card").last.scroll_into_view_if_needed()
    expect(page.locator(".card").last.locator("img[src]")).to_be_attached()
    chromium.wait_until(page, "objectUrls.size === 0")

    page.get_by_role("button", name="Clear all").click()
    expect(page.locator(".card")).to_have_count(0)
    assert page.evaluate("objectUrls.size") == 0


def test_photos_that_are_taken_away_are_not_sent(page: Any, photos: list[Path]) -> None:
    answered: list[str] = []
    aborted: list[str] = []
    page.on("requestfailed", lambda request: aborted.append(request.url))
    page.on("response", lambda response: answered.append(response.url) if "/v1/tag" in response.url else None)
    page.route("**/v1/tag*", lambda route: None)  # never answered
    pick(page, *photos[:6])
    expect(page.locator('.card[data-state="sending"]')).to_have_count(3)

    page.get_by_role("button", name="Clear all").click()
    expect(page.get_by_label("Drop photos here")).to_be_focused()
    page.unroute("**/v1/tag*")
    pick_done(page, photos[6])

    assert len(aborted) == 3
    assert len(answered) == 1
    expect(page.locator(".card")).to_have_count(1)
