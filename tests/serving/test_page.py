"""The web page, driven in a real browser against a real gateway."""

import base64
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="the page's tests need: pip install playwright")
expect = sync_api.expect
expect.set_options(timeout=15_000)  # milliseconds: two cores may be busy

SCREENSHOTS = Path(__file__).parents[2] / "test-output"
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM_ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


# Of the module, not the session: Playwright's event loop on this thread would break other modules' asyncio.run().
@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    chromium = next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    if chromium is None:
        pytest.skip("the page's tests need Chromium: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any, gateway_url: str) -> Iterator[Any]:
    """The page, opened in a fresh profile; a test fails if one of the page's scripts did."""
    context = browser.new_context(base_url=gateway_url, permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.set_default_timeout(15_000)
    failures: list[str] = []
    page.on("pageerror", lambda error: failures.append(str(error)))
    page.goto("/")
    yield page
    context.close()
    assert failures == []


@pytest.fixture
def no_photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_text("Dear diary, this is no photo.")
    return path


def ask_api(page: Any, photo: bytes) -> dict[str, Any]:
    response = page.request.post("/v1/tag?scores=all", data=photo, headers={"Content-Type": "image/jpeg"})
    answer: dict[str, Any] = response.json()
    return answer


def pick(page: Any, *files: Any) -> None:
    page.get_by_label("Drop photos here").set_input_files(list(files))


def card(page: Any, name: str) -> Any:
    return page.get_by_role("listitem").filter(has=page.get_by_role("heading", name=name, exact=True))


def wait_until_settled(page: Any, cards: int) -> None:
    expect(page.locator('.card:is([data-state="done"], [data-state="failed"])')).to_have_count(cards)


def read_bars(card: Any) -> list[tuple[str, float, float]]:
    rows = zip(
        card.locator(".bar-label").all_inner_texts(), card.locator(".bar-numbers").all_inner_texts(), strict=True
    )
    numbers = re.compile(r"(\d\.\d+), threshold (\d\.\d+)")
    return [(label, *map(float, numbers.fullmatch(text).groups())) for label, text in rows]  # type: ignore[union-attr]


def take_screenshot(page: Any, name: str) -> None:
    page.evaluate("Promise.allSettled([...document.images].map((image) => image.decode()))")
    page.evaluate("Promise.allSettled(document.getAnimations().map((animation) => animation.finished))")
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)


def test_says_which_labels_the_model_knows(page: Any) -> None:
    model = page.request.get("/v1/models").json()["models"][0]

    expect(page.get_by_text(f"The model {model['name']} knows {len(model['labels'])} labels")).to_be_visible()
    expect(page.locator(".label")).to_have_text(model["labels"])


def test_shows_the_scores_that_the_api_answers(page: Any, photos: list[Path]) -> None:
    for photo in photos[:3]:
        answer = ask_api(page, photo.read_bytes())
        tags = [tag["label"] for tag in answer["tags"]]

        pick(page, photo)

        shown = card(page, photo.name)
        expect(shown).to_have_attribute("data-state", "done")
        expect(shown.locator(".chip")).to_have_text(tags)
        expect(shown.locator(".chosen .bar-label")).to_have_text(tags)
        for (label, score, threshold), expected in zip(read_bars(shown), answer["scores"], strict=True):
            assert label == expected["label"]
            assert (score, threshold) == pytest.approx((expected["score"], expected["threshold"]), abs=0.006)


def test_says_plainly_that_no_label_fits(page: Any, photos: list[Path]) -> None:
    answer = ask_api(page, photos[0].read_bytes())
    page.route("**/v1/tag*", lambda route: route.fulfill(json=answer | {"tags": []}))

    pick(page, photos[0])

    expect(card(page, photos[0].name).get_by_text("No label reaches its threshold.")).to_be_visible()
    expect(page.locator(".chip, .chosen")).to_have_count(0)


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

    pick(page, *photos[:8])

    wait_until_settled(page, cards=8)
    expect(page.locator(".card .name")).to_have_text([photo.name for photo in photos[:8]])
    assert sent == 8
    assert 1 <= most <= 3


def test_a_refused_file_says_why_and_the_others_go_on(page: Any, photos: list[Path], no_photo: Path) -> None:
    problem = ask_api(page, no_photo.read_bytes())

    pick(page, photos[0], no_photo, photos[1])

    wait_until_settled(page, cards=3)
    refused = card(page, "photo.jpg")
    expect(refused.locator(".status")).to_contain_text(problem["detail"])
    expect(refused.get_by_text(re.compile(r"^Request [0-9a-f]{32}$"))).to_be_visible()
    expect(refused.get_by_role("button", name="Try again")).to_be_visible()
    expect(page.get_by_role("heading", name="3 photos, 2 done, 1 failed")).to_be_visible()


def test_a_dead_server_is_said_and_can_be_tried_again(page: Any, photos: list[Path]) -> None:
    page.route("**/v1/**", lambda route: route.abort("connectionrefused"))
    page.reload()
    pick(page, photos[0])
    expect(page.get_by_text(re.compile("cannot be reached"))).to_have_count(3)  # the model, the photo, the live region

    page.unroute("**/v1/**")
    page.locator("#model").get_by_role("button", name="Try again").click()
    card(page, photos[0].name).get_by_role("button", name="Try again").click()

    expect(page.locator(".label")).not_to_have_count(0)
    expect(card(page, photos[0].name)).to_have_attribute("data-state", "done")


def test_a_busy_server_is_asked_once_more_unasked(page: Any, photos: list[Path]) -> None:
    busy = {"status": 429, "headers": {"Retry-After": "1"}, "json": {"detail": "Too much to do.", "request_id": "abc"}}
    page.route("**/v1/tag*", lambda route: route.fulfill(**busy), times=1)

    pick(page, photos[0])

    expect(page.get_by_text("Too much to do. Trying again in 1 s")).to_be_visible()
    expect(card(page, photos[0].name)).to_have_attribute("data-state", "done")


def test_an_answer_that_is_not_json_is_said(page: Any, photos: list[Path]) -> None:
    page.route("**/v1/tag*", lambda route: route.fulfill(status=502, body="<h1>Bad gateway</h1>"))

    pick(page, photos[0])

    expect(card(page, photos[0].name).get_by_text("does not understand (status 502)")).to_be_visible()


@pytest.mark.parametrize(
    ("event", "name", "field"), [("DragEvent", "drop", "dataTransfer"), ("ClipboardEvent", "paste", "clipboardData")]
)
def test_takes_dropped_and_pasted_photos(page: Any, photos: list[Path], event: str, name: str, field: str) -> None:
    encoded = base64.b64encode(photos[0].read_bytes()).decode()

    page.evaluate(
        f"""(encoded) => {{
            const bytes = Uint8Array.from(atob(encoded), (character) => character.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], "given.jpg", {{ type: "image/jpeg" }}));
            document.body.dispatchEvent(new {event}("{name}", {{ {field}: transfer, bubbles: true }}));
        }}""",
        encoded,
    )

    expect(card(page, "given.jpg")).to_have_attribute("data-state", "done")


def test_the_keyboard_reaches_the_file_picker(page: Any, photos: list[Path]) -> None:
    page.on("filechooser", lambda chooser: None)
    page.reload()  # Playwright begins to catch file choosers at its leisure; by the end of a reload it does
    page.get_by_role("link", name="API reference").focus()
    page.keyboard.press("Tab")
    expect(page.get_by_label("Drop photos here")).to_be_focused()

    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(photos[0])

    expect(card(page, photos[0].name)).to_have_attribute("data-state", "done")


def test_the_scores_can_be_put_away(page: Any, photos: list[Path]) -> None:
    pick(page, photos[0])
    expect(page.locator(".bar").first).to_be_visible()

    page.get_by_role("switch", name="Only tags").check()

    expect(page.locator(".bar").first).to_be_hidden()


def test_copies_the_answers_and_forgets_them(page: Any, photos: list[Path]) -> None:
    answer = ask_api(page, photos[0].read_bytes())
    pick(page, photos[0])
    expect(card(page, photos[0].name)).to_have_attribute("data-state", "done")

    page.get_by_role("button", name="Copy JSON").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    [copied] = page.evaluate("navigator.clipboard.readText().then(JSON.parse)")
    assert copied["file"] == photos[0].name
    assert copied["tags"] == answer["tags"]
    assert [score["label"] for score in copied["scores"]] == [score["label"] for score in answer["scores"]]

    page.get_by_role("button", name="Clear all").click()
    expect(page.locator(".card")).to_have_count(0)
    expect(page.get_by_role("button", name="Copy JSON")).to_be_hidden()


def test_a_file_name_is_text_and_nothing_else(page: Any, photos: list[Path]) -> None:
    name = "<img src=x onerror=alert(1)>.jpg"

    pick(page, {"name": name, "mimeType": "image/jpeg", "buffer": photos[0].read_bytes()})

    expect(card(page, name)).to_have_attribute("data-state", "done")
    expect(page.locator("h3 img")).to_have_count(0)


def test_logs_no_error_and_talks_to_its_own_server_only(page: Any, gateway_url: str, photos: list[Path]) -> None:
    errors: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None)
    page.on("request", lambda request: requests.append(request.url))

    page.reload()
    pick(page, *photos[:2])
    wait_until_settled(page, cards=2)

    assert errors == []
    assert len(requests) >= 5
    assert [url for url in requests if not url.startswith((gateway_url, f"blob:{gateway_url}", "data:"))] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1100])
def test_fits_every_screen_in_light_and_dark(
    page: Any, photos: list[Path], no_photo: Path, width: int, scheme: str
) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme=scheme)
    take_screenshot(page, f"page-{scheme}-{width}-empty")

    pick(page, *photos[1:4], no_photo)
    wait_until_settled(page, cards=4)
    take_screenshot(page, f"page-{scheme}-{width}")

    assert page.evaluate("document.documentElement.scrollWidth") <= width
    brightness = page.evaluate(
        "Math.max(...getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number))"
    )
    assert (brightness < 64) == (scheme == "dark")
