"""Names from other systems, URLs and encodings: found where exactly one file fits."""

import os
import unicodedata
from pathlib import Path

import pytest

from labelwise.errors import DataError
from training.data.layouts.layout_files import locate

NFC, NFD = (unicodedata.normalize(form, "café.jpg") for form in ("NFC", "NFD"))


def put(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


@pytest.mark.parametrize(
    ("listed", "there"),
    [
        ("deep\\er\\a.jpg", "deep/er/a.jpg"),
        (".\\a.jpg", "a.jpg"),
        ("a%20b%26c.jpg", "a b&c.jpg"),
        ("a+b.jpg", "a b.jpg"),
        ("caf%C3%A9.jpg", NFC),
        ("caf%C3%A9.jpg", NFD),
        (NFC, NFD),
        (NFD, NFC),
        (f"d{NFC[:-4]}\\{NFC}", f"d{NFD[:-4]}/{NFD}"),
        ("IMG_1.JPG", "img_1.jpg"),
        ("Photos/a.jpg", "photos/a.jpg"),
        ("C:\\Users\\me\\set\\deep\\a.jpg", "deep/a.jpg"),
        ("/content/set/images/a.jpg", "images/a.jpg"),
        ("../../images/a.jpg", "images/a.jpg"),
        ("https://host/bucket/deep/a%20b.jpg", "deep/a b.jpg"),
        ("file:///home/me/a.jpg", "a.jpg"),
        ("cafÃ©.jpg", NFC),
        (NFC, "cafÃ©.jpg"),
        (NFC, "caf├⌐.jpg"),
    ],
)
def test_the_one_file_that_fits_is_found(listed: str, there: str, tmp_path: Path):
    put(tmp_path, there, "other.jpg")
    assert locate([listed, "other.jpg"], [tmp_path], Path("list")) == [tmp_path / there, tmp_path / "other.jpg"]


def test_bytes_that_are_no_utf8_are_found_too(tmp_path: Path):
    name = os.fsdecode(b"caf\xe9.jpg")
    try:
        put(tmp_path, name)
    except OSError:
        pytest.skip("this file system has no such names")
    assert locate([NFC], [tmp_path], Path("list")) == [tmp_path / name]


def test_the_exact_name_comes_first(tmp_path: Path):
    put(tmp_path, NFC, NFD, "a%20b.jpg", "a b.jpg", "A.jpg", "a.jpg")
    names = [NFC, NFD, "a%20b.jpg", "a b.jpg", "A.jpg", "a.jpg"]
    assert locate(names, [tmp_path], Path("list")) == [tmp_path / name for name in names]


@pytest.mark.parametrize(
    ("listed", "there"),
    [("caf%C3%A9.jpg", (NFC, NFD)), ("IMG.jpg", ("img.jpg", "Img.jpg")), ("a\\b.jpg", ("A/b.jpg", "a/B.jpg"))],
)
def test_where_several_fit_all_spellings_are_shown_escaped(listed: str, there: tuple[str, ...], tmp_path: Path):
    put(tmp_path, *there)
    if len(list(tmp_path.rglob("*.jpg"))) < 2:
        pytest.skip("this file system takes these names for one")
    with pytest.raises(DataError, match=r"list names the photo .* which 2 files fit") as caught:
        locate([listed], [tmp_path], Path("list"))
    for name in (listed, *there):
        assert ascii(name) in str(caught.value)


def test_a_relative_name_is_never_found_in_another_folder(tmp_path: Path):
    put(tmp_path, "b/1.jpg", "2.jpg")
    assert locate(["a/1.jpg", "2.jpg"], [tmp_path], Path("list"))[0] == tmp_path / "a/1.jpg"  # missing, as it is


def test_if_all_are_missing_what_is_there_is_said(tmp_path: Path):
    put(tmp_path, "there.jpg")
    with pytest.raises(DataError, match=r"gone\.jpg should be in .*; in .* there are there\.jpg"):
        locate(["gone.jpg"], [tmp_path / "nowhere", tmp_path], Path("list"))


def test_two_spellings_of_one_file_are_refused_and_shown(tmp_path: Path):
    put(tmp_path, NFC)
    with pytest.raises(DataError, match=r"names the photo .* twice") as caught:
        locate([NFC, NFD], [tmp_path], Path("list"))
    assert ascii(NFC) in str(caught.value)
    assert ascii(NFD) in str(caught.value)
