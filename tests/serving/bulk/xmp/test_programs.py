"""What ExifTool, exiv2 and darktable read from our sidecars, and what they keep in them."""

import json
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

from labelwise.spec import TaggerSpec
from serving.bulk.rows import Row
from serving.bulk.sources.found import FoundPhoto, look
from serving.bulk.xmp.sidecars import Sidecars
from tests.polling import PATIENCE
from tests.serving.bulk.conftest import ROOT

AWKWARD = ("salt, pepper", "left|right", "in;out", "day/night")
SAFE = ["salt， pepper", "left｜right", "in;out", "day/night"]


def run(*command: str | Path) -> str:
    if not shutil.which(str(command[0])):
        pytest.skip(f"{command[0]} is not installed")
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE).stdout


def exiftool(*arguments: str | Path) -> Any:
    return json.loads(run("exiftool", "-j", "-G1", "-struct", *arguments))[0]


def exiftool_writes(file: Path, *arguments: str) -> None:
    run("exiftool", "-q", "-overwrite_original", *arguments, file)


def subjects(file: Path, name: str = "XMP-dc:Subject") -> list[str]:
    found = exiftool(f"-{name}", file).get(name, [])
    return [str(found)] if not isinstance(found, list) else [str(word) for word in found]


def tagged(file: Path, labels: Sequence[str], stem: bool = False) -> Path:
    """Write the photo's sidecar as a run does; the photo stays as it is."""
    before = file.read_bytes()
    spec = TaggerSpec.read(ROOT / "model_repository/scenes")
    spec = spec.model_copy(update={"labels": tuple(labels) or ("none",), "thresholds": (0.5,) * (len(labels) or 1)})
    photo = look(str(file))
    assert isinstance(photo, FoundPhoto)
    scores = np.full(len(spec.labels), 1.0 if labels else 0.0, np.float32)
    (row,) = Sidecars(stem).add([photo], [Row(photo.path, 0, 0, scores)], spec)
    assert (row.error, row.detail) == (None, None)
    assert file.read_bytes() == before
    return Sidecars(stem).path(str(file))


@dataclass
class Shown:
    """What darktable's library says of a photo after importing it. `color` counts from red, 0."""

    tags: set[str]
    stars: int
    is_rejected: bool
    title: str | None
    colors: set[int]
    history: set[str]


@pytest.fixture(scope="module")
def darktable(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Shown]:
    """darktable(photo) imports the photo into a new library. All have one configuration, which takes long to make."""
    home = tmp_path_factory.mktemp("darktable")
    return lambda photo: imported(photo, home)


def imported(photo: Path, home: Path) -> Shown:
    if not shutil.which("darktable-cli"):
        pytest.skip("darktable-cli is not installed")
    config, out = home / "config", home / "out.jpg"
    shutil.rmtree(home / "cache", ignore_errors=True)
    for old in (out, *config.glob("library.db*")):
        old.unlink(missing_ok=True)
    size = ("--width", "16", "--height", "16")
    subprocess.run(
        ["darktable-cli", photo, out, *size, "--core", "--configdir", config, "--library", config / "library.db"],
        capture_output=True,
        check=True,
        timeout=PATIENCE,
        env=os.environ | {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")},
    )
    with sqlite3.connect(config / "library.db") as db:
        db.execute("ATTACH ? AS data", (str(config / "data.db"),))
        tags = db.execute("SELECT name FROM data.tags JOIN tagged_images ON tagid = tags.id").fetchall()
        ((flags,),) = db.execute("SELECT flags FROM images").fetchall()
        titles = db.execute("SELECT value FROM meta_data WHERE key = 2").fetchall()
        colors = db.execute("SELECT color FROM color_labels").fetchall()
        history = db.execute("SELECT operation FROM history").fetchall()
    db.close()
    return Shown(
        {name for (name,) in tags if not name.startswith("darktable|")},
        flags & 7,
        bool(flags & 8),
        titles[0][0] if titles else None,
        {color for (color,) in colors},
        {operation for (operation,) in history},
    )


Darktable = Callable[[Path], Shown]


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.new("RGB", (64, 48), "teal").save(tmp_path / "a.jpg")
    return tmp_path / "a.jpg"


@pytest.fixture
def full(photo: Path) -> Path:
    """A photo with keywords in XMP and in IPTC, a title, a rating, a colour label and more."""
    exiftool_writes(
        photo,
        *("-XMP-dc:Subject=sea", "-XMP-dc:Subject=großer Hund", "-IPTC:Keywords=port", "-XMP-dc:Title=Größe"),
        *("-XMP-xmp:Rating=3", "-XMP-xmp:Label=Red", "-XMP-photoshop:City=Köln", "-XMP-exif:GPSLatitude=50.9"),
        *("-XMP-mwg-kw:KeywordInfo={Hierarchy=[{Keyword=water,Children=[{Keyword=sea}]}]}",),
    )
    return photo


def test_each_program_reads_each_keyword_whole(photo: Path, darktable: Darktable):
    sidecar = tagged(photo, ["großer Hund", *AWKWARD])
    wanted = ["großer Hund", *SAFE]
    assert subjects(sidecar) == wanted
    assert run("exiv2", "-PXv", "-K", "Xmp.dc.subject", sidecar).strip() == ", ".join(wanted)
    assert darktable(photo).tags == {*wanted}


def test_lists_of_hierarchical_keywords_get_each_keyword_whole(photo: Path, darktable: Darktable):
    lists = {"XMP-lr:HierarchicalSubject": "|", "XMP-digiKam:TagsList": "/", "XMP-microsoft:LastKeywordXMP": "/"}
    exiftool_writes(photo, *(f"-{name}=places{separator}sea" for name, separator in lists.items()), "-Subject=sea")
    sidecar = tagged(photo, AWKWARD)
    for name, separator in lists.items():
        safe = [word.replace("/", "／") if separator == "/" else word for word in SAFE]
        assert subjects(sidecar, name) == [f"places{separator}sea", *safe]
    assert darktable(photo).tags == {"places|sea", *SAFE}
    tagged(photo, [])
    for name, separator in lists.items():
        assert subjects(sidecar, name) == [f"places{separator}sea"]


def test_a_new_sidecar_hides_nothing_from_darktable(full: Path, darktable: Darktable):
    alone = darktable(full)
    assert (alone.tags, alone.stars, alone.title) == ({"sea", "großer Hund", "port"}, 3, "Größe")
    tagged(full, ["trees"])
    beside = darktable(full)
    assert beside.tags == alone.tags | {"trees"}
    beside.tags = alone.tags
    assert beside == alone


def test_a_rejected_photo_stays_rejected(photo: Path, darktable: Darktable):
    exiftool_writes(photo, "-XMP-xmp:Rating=-1")
    tagged(photo, ["trees"])
    assert darktable(photo).is_rejected


def test_a_new_sidecar_does_not_develop_a_photo_twice(photo: Path, darktable: Darktable):
    """darktable and Lightroom write their settings into what they export."""
    history = '<rdf:li darktable:operation="invert" darktable:num="0" darktable:enabled="1" darktable:modversion="2"'
    packet = f"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
    <rdf:Description rdf:about="" xmlns:darktable="http://darktable.sf.net/" darktable:xmp_version="5"
    darktable:history_end="1" xmlns:crs="http://ns.adobe.com/camera-raw-settings/1.0/" crs:HasCrop="True">
    <darktable:history><rdf:Seq>{history} darktable:params="00000000" darktable:blendop_version="11"/></rdf:Seq>
    </darktable:history></rdf:Description></rdf:RDF></x:xmpmeta>"""
    Image.open(photo).save(photo, xmp=packet.encode())
    alone = darktable(photo)
    sidecar = tagged(photo, ["trees"])
    assert darktable(photo).history == alone.history
    assert b"darktable" not in sidecar.read_bytes()
    assert b"crs" not in sidecar.read_bytes()


def test_darktable_reads_a_new_lightroom_style_sidecar(full: Path, darktable: Darktable):
    tagged(full, ["trees", *AWKWARD], stem=True)
    shown = darktable(full)
    assert shown.tags == {"sea", "großer Hund", "port", "trees", *SAFE}
    assert (shown.stars, shown.title, shown.colors) == (3, "Größe", {0})


def test_a_lightroom_style_sidecar_is_copied(photo: Path, darktable: Darktable):
    """darktable reads a.xmp only if there is no a.jpg.xmp."""
    tagged(photo, ["ours"], stem=True)
    exiftool_writes(photo.with_suffix(".xmp"), "-Subject+=theirs", "-XMP-xmp:Rating=4", "-Title=Größe")
    sidecar = tagged(photo, ["trees"])
    shown = darktable(photo)
    assert (shown.tags, shown.stars, shown.title) == ({"theirs", "trees"}, 4, "Größe")
    assert subjects(sidecar, "XMP-dc:Subject") == ["theirs", "trees"]


def test_keywords_that_exiftool_adds_are_shown_and_stay(photo: Path, darktable: Darktable):
    sidecar = tagged(photo, ["trees", "sea"])
    exiftool_writes(sidecar, "-XMP-dc:Subject+=added")
    assert darktable(photo).tags == {"trees", "sea", "added"}
    # darktable writes every tag to both lists, and from then on reads lr:hierarchicalSubject alone.
    exiftool_writes(sidecar, *(f"-XMP-lr:HierarchicalSubject={word}" for word in ("trees", "sea", "added")))
    exiftool_writes(sidecar, "-XMP-dc:Subject+=later")
    tagged(photo, ["trees"])
    assert darktable(photo).tags == {"trees", "added", "later"}
    assert subjects(sidecar) == ["trees", "added", "later"]


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "avif", "gif", "heic"])
def test_exiftool_reads_the_same_xmp_from_a_new_sidecar(suffix: str, tmp_path: Path):
    if suffix == "heic":
        pytest.importorskip("pillow_heif").register_heif_opener()
    if suffix == "avif" and not features.check("avif"):
        pytest.skip("Pillow is built without AVIF")
    photo = tmp_path / f"a.{suffix}"
    Image.new("RGB", (64, 48), "teal").save(photo)
    keywords = [] if suffix in ("webp", "gif", "avif", "heic") else ["-IPTC:Keywords=port", "-IPTC:City=Köln"]
    exiftool_writes(
        photo,
        *("-XMP-dc:Subject=sea", "-XMP-dc:Title=Größe", "-XMP-xmp:Rating=3", "-XMP-photoshop:Headline=Line\nfeed"),
        *("-XMP-mwg-rs:RegionInfo={RegionList=[{Name=Ann,Type=Face,Area={X=.5,Y=.5,W=.1,H=.1,Unit=normalized}}]}",),
        *("-charset", "iptc=utf8", *keywords),
    )
    sidecar = tagged(photo, ["trees"])
    inside, beside = (exiftool("-XMP:all", file) for file in (photo, sidecar))
    names = inside.keys() - {"SourceFile", "XMP-dc:Subject", "XMP-x:XMPToolkit"}
    assert {name: beside[name] for name in names} == {name: inside[name] for name in names}
    assert len(names) == 4
    assert subjects(sidecar) == ["sea", "port", "trees"] if keywords else ["sea", "trees"]
    assert beside.get("XMP-photoshop:City") == ("Köln" if keywords else None)
