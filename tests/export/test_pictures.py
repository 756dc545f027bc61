"""Photos named as a folder, a list or one file; what cannot be read is named."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from export.pictures import drawn_pictures, pictures_for
from labelwise.errors import DataError
from labelwise.image import load_pixels
from labelwise.spec import TaggerSpec


def test_without_photos_the_pictures_are_reproducible_and_differ(spec: TaggerSpec):
    pictures = pictures_for(spec, None)
    assert pictures.pixels.shape == (spec.max_batch, 32, 48, 3)
    assert (pictures.pixels == drawn_pictures(spec.image, spec.max_batch).pixels).all()
    assert len(np.unique(pictures.pixels.reshape(spec.max_batch, -1), axis=0)) == spec.max_batch
    assert len(pictures_for(spec.model_copy(update={"max_batch": 4096}), None).names) == 64


def test_a_folder_and_a_list_name_photos(spec: TaggerSpec, photos: list[Path], tmp_path: Path):
    folder = photos[0].parent
    found = pictures_for(spec, folder)
    assert [Path(name).name for name in found.names] == sorted(file.name for file in folder.glob("*.jpg"))
    first = Path(found.names[0])
    assert (found.pixels[0] == load_pixels(first.read_bytes(), 32, 48)).all()

    (tmp_path / "small.png").write_bytes(b"")
    Image.new("RGB", (20, 20), "red").save(tmp_path / "small.png")
    (tmp_path / "list.txt").write_text(f"small.png\n\n{first}\n", "utf-8")
    listed = pictures_for(spec, tmp_path / "list.txt")
    assert listed.names == (str(tmp_path / "small.png"), str(first))
    assert pictures_for(spec, first).names == (str(first),)


def test_a_large_folder_is_sampled_evenly(spec: TaggerSpec, tmp_path: Path):
    for number in range(130):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{number:03}.png")
    names = [Path(name).stem for name in pictures_for(spec, tmp_path).names]
    assert len(names) == 64
    assert (names[0], names[-1]) == ("000", "127")


@pytest.mark.parametrize(
    ("content", "name", "words"),
    [
        (None, "missing", "cannot be read: No such file"),
        (b"nowhere.jpg\n", "list.txt", "nowhere.jpg cannot be read"),
        (b"\xff\xfe\xfa", "list.txt", "neither a photo nor a list"),
        (b"", "list.txt", "has no photos"),
        (b"no photo", "broken.jpg", "broken.jpg cannot be decoded"),
    ],
)
def test_unreadable_photos_are_named(content: bytes | None, name: str, words: str, spec: TaggerSpec, tmp_path: Path):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=words):
        pictures_for(spec, tmp_path / name)


def test_batches_go_on_from_the_first_picture(spec: TaggerSpec):
    pictures = drawn_pictures(spec.image, 3)
    assert list(pictures.batches(2)) == [[0, 1], [2, 0]]
    assert list(pictures.batches(5)) == [[0, 1, 2, 0, 1]]
