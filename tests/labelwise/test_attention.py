"""Attention brought back into the photo: what the model's pixels show at a place, the file shows at that place."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labelwise.attention import Located, as_stored, locate, spread
from labelwise.image import load_photo
from labelwise.spec import ImageSpec

_UNDO = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # FLIP_LEFT_RIGHT, ROTATE_180, …: upright -> as stored
ROWS, COLUMNS = 6, 8


def stored_file(upright: Image.Image, orientation: int, format: str) -> bytes:
    stored = upright.transpose(Image.Transpose(_UNDO[orientation])) if orientation > 1 else upright
    exif, stream = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    stored.save(stream, format, exif=exif, quality=95)
    return stream.getvalue()


def resized_by(resize: str, ratio: float) -> ImageSpec:
    return ImageSpec(height=96, width=round(96 * ratio), resize=resize)


def brightness(image: Image.Image, box: tuple[float, ...], size: tuple[int, int]) -> np.ndarray:
    """A map of one label that attends to what is bright: float32 [1, rows, columns] of `box` of the image."""
    grid = image.convert("L").resize(size, Image.Resampling.BOX, box=box)
    return np.asarray(grid, np.float32)[np.newaxis]


@pytest.mark.parametrize("resize", ["squash", "crop"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("turned", [False, True])
def test_a_grid_lies_over_what_it_was_made_of(photos: list[Path], orientation: int, resize: str, turned: bool) -> None:
    with Image.open(photos[0]) as image:
        upright = image.convert("RGB").rotate(90 * turned, expand=True)
    data = stored_file(upright, orientation, "JPEG")
    photo = load_photo(data, 96, 128, resize)
    assert (photo.size, photo.orientation) == (upright.size, orientation)
    seen = Image.fromarray(photo.pixels)
    located = locate(brightness(seen, (0, 0, *seen.size), (COLUMNS, ROWS)), photo.size, resized_by(resize, 128 / 96))
    assert located.maps.sum() == pytest.approx(1, abs=1e-5)
    with Image.open(io.BytesIO(data)) as stored:  # Pillow leaves EXIF alone
        for image, places in ((upright, located), (stored, as_stored(located, orientation))):
            assert places.size == image.size
            expected = brightness(image, places.box, places.maps.shape[:0:-1])
            # The model's size is not that of the photo, so it sees it a little smoothed.
            assert np.abs(places.maps - expected / expected.sum()).max() < 0.06 * places.maps.max()


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_every_format_says_its_size_and_orientation(format: str, orientation: int) -> None:
    photo = load_photo(stored_file(Image.new("RGB", (64, 40), "teal"), orientation, format), 16, 16)
    assert (photo.size, photo.orientation) == ((64, 40), orientation)


@pytest.mark.parametrize(("size", "orientation"), [((2000, 1999), 6), ((1999, 2000), 6), ((1999, 2000), 1)])
def test_a_draft_that_became_square_keeps_the_size(size: tuple[int, int], orientation: int) -> None:
    assert load_photo(stored_file(Image.new("RGB", size), orientation, "JPEG"), 16, 16).size == size


def test_the_box_of_a_crop_is_the_middle_of_the_photo() -> None:
    grid = np.ones((2, 4, 4), np.float32)
    assert locate(grid, (640, 480), resized_by("crop", 1)).box == (80, 0, 560, 480)
    assert locate(grid, (640, 480), resized_by("squash", 1)).box == (0, 0, 640, 480)
    assert as_stored(locate(grid, (640, 480), resized_by("crop", 2)), 6).box == (80, 0, 400, 640)


def test_attention_to_nothing_at_all_stays_so() -> None:
    assert locate(np.zeros((1, 2, 2), np.float32), (8, 8), resized_by("squash", 1)).maps.sum() == 0


def test_spread_is_smooth_and_within_the_box() -> None:
    grid = np.zeros((1, 4, 4), np.float32)
    grid[0, 1, 2] = 1
    whole = spread(locate(grid, (640, 480), resized_by("crop", 1)), (320, 240))
    assert whole.shape == (1, 240, 320)
    assert np.unravel_index(whole[0].argmax(), whole[0].shape) == pytest.approx((90, 190), abs=2)
    assert whole.max() == 1
    assert not whole[:, :, :40].any()
    assert not whole[:, :, 280:].any()
    assert np.abs(np.diff(whole[0], axis=1)).max() < 0.1


def test_spread_to_a_few_pixels() -> None:
    located = Located(np.ones((1, 2, 2), np.float32) / 4, (4000, 10), (1995.0, 0.0, 2005.0, 10.0))
    assert spread(located, (20, 8)).shape == (1, 8, 20)
    assert spread(Located(np.ones((0, 2, 2), np.float32), (9, 9), (0, 0, 9, 9)), (5, 4)).shape == (0, 4, 5)


def test_spread_shows_what_a_single_sink_of_attention_would_hide() -> None:
    """Shares as the bundled model gives them: most of all at the border, and an object at three times its share."""
    grid = np.full((8, 8), 0.5, np.float32)
    grid[3, 0], grid[4, 4:6] = 14, 3
    whole = spread(locate(grid[np.newaxis], (80, 80), resized_by("squash", 1)), (80, 80))[0]
    assert whole[35, 5] > 0.95
    assert 0.35 < whole[45, 50] < 0.5
    assert whole[20, 60] == 0


def test_spread_leaves_a_map_that_looks_everywhere_faint() -> None:
    grid = np.ones((1, 4, 4), np.float32)
    grid[0, 1, 2] = 1.3
    assert 0 < spread(locate(grid, (40, 40), resized_by("squash", 1)), (40, 40)).max() < 0.25
