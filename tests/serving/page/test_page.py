"""The web page in a real browser with a real gateway: photos in, tags out."""

import base64
from pathlib import Path
from typing import Any

import pytest

from tests.serving import chromium
from tests.serving.bad_images import BROKEN_PROFILE, BROKEN_PROFILE_NOTE
from tests.serving.chromium import ask_api, card, expect, pick, pick_done, read_bars, take_screenshot

browser, page = chromium.browser, chromium.page

SCHEMES = ("light", "dark")


@pytest.fixture
def no_photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_text("Dear diary, this is no photo.")
    return path


def test_lists_the_models_labels(page: Any) -> None:
    model = page.request.get("/v1/models").json()["models"][0]

    expect(page.get_by_text(f"The model {model['name']} knows {len(model['labels'])} labels")).to_be_visible()
    expect(page.locator(".label")).to_have_text(model["labels"])


def test_shows_the_scores_of_the_api(page: Any, photos: list[Path]) -> None:
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


def test_shows_the_notes_about_a_photo(page: Any, photos: list[Path], tmp_path: Path) -> None:
    odd = tmp_path / "odd-profile.jpg"
    odd.write_bytes(BROKEN_PROFILE)

    pick_done(page, photos[0], odd)

    expect(card(page, odd.name).locator(".status")).to_contain_text(BROKEN_PROFILE_NOTE)
    expect(card(page, photos[0].name).locator(".status .detail")).to_have_count(0)


def test_accepts_dropped_and_pasted_photos(page: Any, photos: list[Path]) -> None:
    encoded = base64.b64encode(photos[0].read_bytes()).decode()
    events = [("DragEvent", "drop", "dataTransfer"), ("ClipboardEvent", "paste", "clipboardData")]

    for event, name, field in events:
        page.evaluate(
            f"""(encoded) => {{
                const bytes = Uint8Array.from(atob(encoded), (character) => character.charCodeAt(0));
                const transfer = new DataTransfer();
                transfer.items.add(new File([bytes], "{name}.jpg", {{ type: "image/jpeg" }}));
                document.body.dispatchEvent(new {event}("{name}", {{ {field}: transfer, bubbles: true }}));
            }}""",
            encoded,
        )

        expect(card(page, f"{name}.jpg")).to_have_attribute("data-state", "done")


def test_accepts_all_photos_in_a_dropped_folder(page: Any, photos: list[Path], tmp_path: Path) -> None:
    holiday = tmp_path / "holiday"
    (holiday / "day 2").mkdir(parents=True)
    for name in ("2.jpg", "10.jpg", "day 2/1.JPG"):
        (holiday / name).write_bytes(photos[0].read_bytes())
    (holiday / "notes.txt").write_text("Sunny.")
    (holiday / ".hidden.jpg").write_bytes(b"")
    drag = {"items": [], "files": [str(holiday)], "dragOperationsMask": 1}
    session = page.context.new_cdp_session(page)

    for step in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": step, "x": 200, "y": 300, "data": drag})

    expect(page.locator(".card .name")).to_have_text(["2.jpg", "10.jpg", "1.JPG"])
    chromium.wait_until_settled(page, 3)


def test_only_tags_hides_the_scores(page: Any, photos: list[Path]) -> None:
    pick(page, photos[0])
    expect(page.locator(".bar").first).to_be_visible()

    page.get_by_role("switch", name="Only tags").check()

    expect(page.locator(".bar").first).to_be_hidden()


def test_removes_one_photo_or_all(page: Any, photos: list[Path]) -> None:
    pick_done(page, *photos[:4])

    page.get_by_role("button", name=f"Remove {photos[1].name}").click()
    expect(page.locator(".card .name")).to_have_text([photos[0].name, photos[2].name, photos[3].name])
    expect(page.get_by_role("button", name=f"Remove {photos[2].name}")).to_be_focused()

    page.get_by_role("button", name="Clear all").click()
    expect(page.locator(".card")).to_have_count(0)
    expect(page.get_by_role("button", name="Copy JSON")).to_be_hidden()


def test_a_file_name_is_shown_as_plain_text(page: Any, photos: list[Path]) -> None:
    name = "<img src=x onerror=alert(1)>.jpg"

    pick(page, chromium.as_upload(photos[0], name))

    expect(card(page, name)).to_have_attribute("data-state", "done")
    expect(page.locator("h3 img")).to_have_count(0)


def test_logs_no_error_and_contacts_only_its_own_server(page: Any, gateway_url: str, photos: list[Path]) -> None:
    errors: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None)
    page.on("request", lambda request: requests.append(request.url))

    page.reload()
    pick_done(page, *photos[:2])

    assert errors == []
    assert len(requests) >= 5
    assert [url for url in requests if not url.startswith((gateway_url, f"blob:{gateway_url}", "data:"))] == []


@pytest.mark.parametrize("width", [360, 1100])
def test_fits_every_screen_in_light_and_dark(page: Any, photos: list[Path], no_photo: Path, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        take_screenshot(page, f"page-{scheme}-{width}-empty")

    pick_done(page, *photos[1:4], no_photo)
    chromium.open_thresholds(page)
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        take_screenshot(page, f"page-{scheme}-{width}")

        assert page.evaluate("document.documentElement.scrollWidth") <= width
        brightness = page.evaluate(
            "Math.max(...getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number))"
        )
        assert (brightness < 64) == (scheme == "dark")
