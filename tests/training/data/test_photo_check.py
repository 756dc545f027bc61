"""The check before the first epoch: every photo that cannot be used is named at once, or left out."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from labelwise.errors import DataError
from labelwise.image import load_pixels
from labelwise.spec import ImageSpec
from tests.serving.bad_images import BROKEN_PROFILE, BROKEN_PROFILE_NOTE
from tests.training.data.conftest import decoded
from training.data.layouts import read_data
from training.data.photo_check import check_photos

IMAGE = ImageSpec(height=24, width=32, resize="crop", interpolation="bilinear")
FAULTY = {"00010.jpg", "00012.jpg", "00001.jpg"}


@pytest.fixture
def faulty(dataset: Path, tmp_path: Path) -> Path:
    """One photo is no image, one is cut short, one (of val) is not there."""
    folder = shutil.copytree(dataset, tmp_path / "faulty")
    (folder / "images/00010.jpg").write_bytes(b"no photo")
    whole = (folder / "images/00012.jpg").read_bytes()
    (folder / "images/00012.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "images/00001.jpg").unlink()
    return folder


def test_training_sees_what_serving_sees(dataset: Path):
    image = ImageSpec(height=24, width=32, resize="crop", interpolation="bilinear")
    data = check_photos(read_data(dataset), image=image, cache="memory")
    for photos, size in ((data.val, (24, 32)), (data.train, (30, 40))):
        for file, kept in zip(photos.files, photos.pixels, strict=True):
            assert np.array_equal(kept, load_pixels(file.read_bytes(), *size, "crop", "bilinear"))


@pytest.mark.parametrize(("image", "cache"), [(None, "none"), (IMAGE, "none"), (IMAGE, "memory")])
def test_missing_and_broken_photos_are_named_at_once(image: ImageSpec | None, cache: str, faulty: Path):
    with pytest.raises(DataError) as caught:
        check_photos(read_data(faulty), image=image, cache=cache)
    message = str(caught.value)
    assert message.startswith("3 photos cannot be decoded: 00010.jpg (")
    assert "00012.jpg (The image is damaged" in message
    assert "00001.jpg (missing)" in message
    assert "--skip-broken" in message
    assert "\n" not in message


@pytest.mark.parametrize("cache", ["none", "memory"])
def test_or_left_out_and_said(cache: str, faulty: Path, capsys: pytest.CaptureFixture[str]):
    data = read_data(faulty)
    passed: list[tuple[Path, ImageSpec | None, float]] = []
    checked = check_photos(
        data,
        skip_broken=True,
        image=IMAGE,
        cache=cache,
        progress=lambda items: (passed.append(item) or item for item in items),
    )
    assert "Left out: 3 photos" in capsys.readouterr().out
    assert len(passed) == 20
    for before, after in ((data.train, checked.train), (data.val, checked.val)):
        rows = [row for row, file in enumerate(before.files) if file.name not in FAULTY]
        assert after.files == before.subset(rows).files
        assert np.array_equal(after.targets, before.targets[rows])
    assert (len(checked.train), len(checked.val)) == (14, 3)
    assert checked.describe() != data.describe()
    if cache == "none":
        assert {image for _, image, _ in passed} == {None}  # not computed at full size for nothing
        assert checked.train.pixels is checked.val.pixels is None
    else:
        assert np.array_equal(checked.train.pixels, decoded(checked.train.files, IMAGE, scale=1.25))
        assert np.array_equal(checked.val.pixels, decoded(checked.val.files, IMAGE))


def test_photos_whose_colours_are_assumed_are_named(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = shutil.copytree(dataset, tmp_path / "odd")
    for name in ("00010.jpg", "00001.jpg"):
        (folder / "images" / name).write_bytes(BROKEN_PROFILE)
    checked = check_photos(read_data(folder))
    assert (len(checked.train), len(checked.val)) == (16, 4)
    named = ", ".join(f"{name} ({BROKEN_PROFILE_NOTE})" for name in ("00010.jpg", "00001.jpg"))
    assert f"Of 2 photos the colours had to be assumed: {named}" in capsys.readouterr().out


def test_a_whole_set_stays_as_it_is(dataset: Path):
    data = read_data(dataset)
    checked = check_photos(data)
    assert checked.describe() == data.describe()
    assert checked.train.pixels is None


def test_namesakes_are_told_apart_and_ten_are_named(dataset: Path, tmp_path: Path):
    photo = next(dataset.glob("images/*.jpg"))
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        shutil.copy(photo, tmp_path / label / "whole.jpg")
        for number in range(6):
            (tmp_path / label / f"{number}.jpg").write_text(f"{label} {number}")
    with pytest.raises(DataError) as caught:
        check_photos(read_data(tmp_path))
    assert "12 photos" in str(caught.value)
    assert "cat/1.jpg (" in str(caught.value) or "dog/1.jpg (" in str(caught.value)
    assert str(caught.value).count(".jpg (") == 10
    assert "and 2 more" in str(caught.value)


def test_a_split_that_loses_every_photo_is_refused(dataset: Path, tmp_path: Path):
    folder = shutil.copytree(dataset, tmp_path / "data")
    for file in read_data(folder).val.files:
        file.unlink()
    with pytest.raises(DataError, match="none of val"):
        check_photos(read_data(folder), skip_broken=True)
