"""Where the model looked, as a drawing over the photo and in words."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import running_gateway
from tests.serving import chromium
from tests.serving.chromium import ask_api, card, expect, opened_page, pick_done, take_screenshot
from tests.serving.many_labels import publish_many_labels

browser, page = chromium.browser, chromium.page


@pytest.fixture(scope="module")
def cropping_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A gateway with two models that crop to a square; `plain` has no attention."""
    repository = tmp_path_factory.mktemp("cropping")
    publish_many_labels(repository, "things")
    publish_many_labels(repository, "plain", attention=False)
    with running_gateway("--repository", str(repository)) as (url, _):
        yield url


def count_explain_requests(page: Any) -> list[str]:
    questions: list[str] = []
    page.on("request", lambda request: questions.append(request.url) if "/v1/explain" in request.url else None)
    return questions


def drawn(card: Any) -> np.ndarray:
    """The drawing over the photo, RGBA uint8 [h, w, 4]."""
    _, _, encoded = card.locator("canvas").evaluate("(canvas) => canvas.toDataURL()").partition(",")
    with Image.open(io.BytesIO(base64.b64decode(encoded))) as image:
        return np.array(image.convert("RGBA"))


def assert_drawn_as_explained(drawn: np.ndarray, explained: dict[str, Any], label: str) -> None:
    """Every cell is drawn at its place, the one with the most attention the strongest."""
    height, width = drawn.shape[:2]
    image, (left, top, right, bottom) = explained["image"], explained["grid"]["box"]
    assert width / height == pytest.approx(image["width"] / image["height"], rel=0.02)
    [attention] = [entry["attention"] for entry in explained["labels"] if entry["label"] == label]
    times = np.array(attention) * np.size(attention)
    expected = np.log(times.clip(1)) / np.log(max(3, times.max()))
    rows, columns = times.shape
    y = (top + (np.arange(rows) + 0.5) / rows * (bottom - top)) / image["height"] * height
    x = (left + (np.arange(columns) + 0.5) / columns * (right - left)) / image["width"] * width
    at_centres = drawn[np.ix_(y.astype(int), x.astype(int))][..., 3] / 225
    np.testing.assert_allclose(at_centres, expected, atol=0.12)
    assert np.unravel_index(at_centres.argmax(), times.shape) == np.unravel_index(times.argmax(), times.shape)
    assert np.ptp(expected) > 0.3  # varied enough for a mistake to show


def test_pointing_at_labels_sends_one_request_per_photo(page: Any, photos: list[Path]) -> None:
    photo = photos[2]
    questions = count_explain_requests(page)
    pick_done(page, photo)
    shown = card(page, photo.name)
    explained = ask_api(page, photo.read_bytes(), "/v1/explain?threshold=0")

    for label in ("mountains", "trees", "sea"):
        shown.locator(".bar").filter(has_text=label).hover()
        expect(shown.locator(".where")).to_contain_text(f"{label}: ")
        expect(shown.locator("canvas")).to_have_css("opacity", "1")
        assert_drawn_as_explained(drawn(shown), explained, label)
    take_screenshot(page, "page-where")
    shown.locator(".chip").first.hover()
    expect(shown.locator(".where")).to_contain_text("mountains: ")
    shown.get_by_role("heading").hover()

    expect(shown.locator("canvas")).to_have_css("opacity", "0")
    expect(shown.locator(".where")).to_have_text("")
    assert len(questions) == 1


def test_a_click_keeps_the_drawing(page: Any, photos: list[Path]) -> None:
    pick_done(page, photos[0])
    shown = card(page, photos[0].name)

    shown.locator(".bar").nth(1).click()
    page.get_by_role("heading", name="Do the same from a terminal").hover()
    expect(shown.locator(".where")).to_contain_text("mountains: ")
    expect(shown.get_by_role("button", name="mountains", pressed=True)).to_have_count(1)
    shown.locator(".bar").nth(1).click()

    expect(shown.locator(".where")).to_have_text("")
    expect(shown.get_by_role("button", name="mountains", pressed=True)).to_have_count(0)


def test_a_tap_shows_and_hides_the_drawing(browser: Any, gateway_url: str, photos: list[Path]) -> None:
    with opened_page(browser, gateway_url, has_touch=True, viewport={"width": 360, "height": 700}) as page:
        pick_done(page, photos[2])
        shown = card(page, photos[2].name)

        shown.locator(".chip").tap()
        expect(shown.locator(".where")).to_contain_text("mountains: ")
        shown.locator(".bar").nth(1).tap()
        expect(shown.locator(".where")).to_contain_text("trees: ")
        shown.locator(".bar").nth(1).tap()

        expect(shown.locator(".where")).to_have_text("")
        expect(shown.locator("canvas")).to_have_css("opacity", "0")
        shown.locator(".bar").nth(1).tap()
        expect(shown.locator(".where")).to_contain_text("trees: ")
        take_screenshot(page, "page-where-360")


def test_the_drawing_fits_a_cropped_and_rotated_photo(
    browser: Any, cropping_url: str, photos: list[Path], tmp_path: Path
) -> None:
    turned = tmp_path / "turned.jpg"
    with Image.open(photos[5]) as image:
        exif = Image.Exif()
        exif[0x0112] = 6  # rotate by 90 degrees to show: the camera was held upright
        image.crop((0, 0, 440, 280)).rotate(90, expand=True).save(turned, exif=exif)
    as_tiff = io.BytesIO()
    with Image.open(photos[4]) as image:
        image.save(as_tiff, "TIFF")
    unknown = {"name": "sea.tiff", "mimeType": "image/tiff", "buffer": as_tiff.getvalue()}

    with opened_page(browser, cropping_url) as page:
        page.get_by_label("Model").select_option("things")
        pick_done(page, chromium.as_upload(turned, "turned.jpg"), unknown)
        for name, content in (("turned.jpg", turned.read_bytes()), ("sea.tiff", as_tiff.getvalue())):
            explained = ask_api(page, content, "/v1/explain?threshold=0&model=things")
            label = max(explained["labels"], key=lambda entry: float(np.max(entry["attention"])))["label"]
            page.get_by_role("searchbox", name="Find a label").fill(label)
            shown = card(page, name)
            shown.locator(".bar").filter(has=page.get_by_role("button", name=label, exact=True)).click()
            expect(shown.locator(".where")).to_contain_text(f"{label}: ")

            over = drawn(shown)
            assert_drawn_as_explained(over, explained, label)
            image = explained["image"]
            assert image["width"] > image["height"]
            assert explained["grid"]["box"][0] > 0
            outside = over[:, : int(explained["grid"]["box"][0] / image["width"] * over.shape[1]) - 2]
            assert outside.size
            assert set(np.unique(outside[..., :3])) == {0, 255}
        expect(card(page, "sea.tiff").locator(".no-preview")).to_have_text("TIFF")
        take_screenshot(page, "page-where-cropped")


def test_a_model_without_attention_is_asked_once(browser: Any, cropping_url: str, photos: list[Path]) -> None:
    with opened_page(browser, cropping_url) as page:
        questions = count_explain_requests(page)
        page.get_by_label("Model").select_option("plain")
        pick_done(page, photos[0])
        refusal = ask_api(page, photos[0].read_bytes(), "/v1/explain?model=plain")
        assert refusal["status"] == 422
        shown = card(page, photos[0].name)

        for at in range(2):
            shown.locator(".bar").nth(at).hover()
            expect(shown.locator(".where")).to_have_text(refusal["detail"])
            expect(shown.locator("canvas")).to_have_css("opacity", "0")
            shown.get_by_role("heading").hover()
            expect(shown.locator(".where")).to_have_text("")

        assert len(questions) == 1
