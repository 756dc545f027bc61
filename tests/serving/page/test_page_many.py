"""Many photos: few requests at once, little memory, and nothing left over."""

from pathlib import Path
from typing import Any

from tests.serving import chromium
from tests.serving.chromium import as_upload, expect, open_thresholds, pick, pick_done, slide

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


def wait_for_requests(page: Any, hold: list[Any], count: int) -> None:
    for _ in range(400):
        if len(hold) >= count:
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"only {len(hold)} requests in 20 s")


def test_shows_the_progress_until_all_photos_are_done(page: Any, photos: list[Path]) -> None:
    hold: list[Any] = []
    page.route("**/v1/tag*", lambda route: hold.append(route))
    pick(page, *photos[:4])
    expect(page.get_by_role("progressbar", name="Photos tagged")).to_be_visible()
    expect(page.get_by_role("heading", name="4 photos, 0 done")).to_be_visible()
    expect(page.get_by_role("button", name="Copy CSV")).to_be_disabled()
    wait_for_requests(page, hold, 3)
    for route in hold[:3]:
        route.fulfill(status=500, body="")
    wait_for_requests(page, hold, 4)
    hold[3].continue_()

    expect(page.get_by_role("heading", name="4 photos, 1 done, 3 failed")).to_be_visible()
    expect(page.get_by_role("progressbar")).to_be_hidden()
    expect(page.get_by_role("button", name="Copy CSV")).to_be_enabled()


def test_only_cards_near_the_window_hold_pictures_and_labels(page: Any, photos: list[Path]) -> None:
    page.set_viewport_size({"width": 1000, "height": 700})
    pick_done(page, *(as_upload(photos[at % 8], f"{at}.jpg") for at in range(60)))
    first, last = page.locator(".card").first, page.locator(".card").last

    expect(first.locator("img[src]")).to_be_attached()
    expect(first.locator(".bar")).to_have_count(5)
    assert 3 <= page.locator(".card:has(.bar)").count() < 30
    assert 1 < max(first.locator("img").evaluate("(image) => [image.naturalWidth, image.naturalHeight]")) <= 720
    expect(last.locator("img[src], .bar")).to_have_count(0)

    open_thresholds(page)
    slide(page, "All labels", 0)
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    expect(last.locator("img[src]")).to_be_attached()
    expect(last.locator(".chip")).to_have_count(5)
    expect(first.locator("img[src], .bar")).to_have_count(0)
    assert page.locator(".card:has(.bar)").count() < 30
    page.evaluate("scrollTo(0, 0)")
    expect(first.locator("img[src]")).to_be_attached()
    expect(first.locator(".chip")).to_have_count(5)

    page.get_by_role("button", name="Clear all").click()
    expect(page.locator(".card")).to_have_count(0)
    chromium.wait_until(page, "objectUrls.size === 0")


def test_a_hidden_picture_does_not_block_the_next(page: Any) -> None:
    """Hides it at every step of its making. The decoding step is short, so it takes several tries to hit."""
    is_shown = page.evaluate("""async () => {
      const { Thumbnail } = await import("/page/thumbnail.js");
      const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
      const canvas = Object.assign(document.createElement("canvas"), { width: 720, height: 540 });
      canvas.getContext("2d").fillRect(0, 0, 300, 300);
      const file = await new Promise((resolve) => canvas.toBlob(resolve));
      const make = () => {
        const image = document.body.appendChild(new Image());
        return new Thumbnail(image, file, () => {});
      };
      for (let round = 0; round < 60; round++) {
        const thumbnail = make();
        const begun = new Promise((resolve) => {
          new MutationObserver(resolve).observe(thumbnail.image, { attributes: true });
        });
        thumbnail.show();
        if (await Promise.race([begun, pause(5000).then(() => "late")]) === "late") return false;
        await pause(Math.random() * 6);
        thumbnail.hide();
        thumbnail.image.remove();
      }
      const last = make();
      last.show();
      for (let tries = 0; tries < 100 && !last.image.naturalWidth; tries++) await pause(50);
      return last.image.naturalWidth > 0;
    }""")
    assert is_shown


def test_removed_photos_are_not_sent(page: Any, photos: list[Path]) -> None:
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
