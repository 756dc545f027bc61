"""Keywords are added to sidecars, nothing else changes, and photos are never touched."""

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from labelwise.spec import TaggerSpec
from serving.bulk.rows import Row
from serving.bulk.sources.found import FoundPhoto, look
from serving.bulk.xmp.keywords import merge
from serving.bulk.xmp.packet import Packet
from serving.bulk.xmp.sidecars import SidecarError, Sidecars, write_sidecar
from tests.serving.bulk.conftest import ROOT, Tag, rows_of
from tests.serving.bulk.xmp.darktable_sidecar import DARKTABLE, keywords


def write(file: Path, tags: list[str]) -> None:
    write_sidecar(file, Packet.new, lambda packet: merge(packet, tags))


@pytest.mark.parametrize(
    ("sidecar", "words"),
    [
        (b"my notes", "not XML"),
        (DARKTABLE.encode()[:700], "not XML"),
        (b"<notes>mine</notes>", "no rdf:RDF"),
        (DARKTABLE.replace("rdf:Seq", "rdf:Thing").encode(), "not as a list"),
        (b"<?xml version='1.0' encoding='nonsense'?><a/>", "not XML"),
        (b"<!DOCTYPE a SYSTEM 'a.dtd'><a>&b;</a>", "DOCTYPE"),
        (
            DARKTABLE.replace("dc:subject>", "dc:other>").replace("xmp:Rating", "dc:subject").encode(),
            "not as a list",
        ),
        (DARKTABLE.replace("holiday", f"{'<a>' * 300}{'</a>' * 300}").encode(), "Excessive depth"),
    ],
)
def test_a_file_that_cannot_be_merged_is_left_alone(sidecar: bytes, words: str, tmp_path: Path):
    (tmp_path / "a.jpg.xmp").write_bytes(sidecar)
    with pytest.raises(SidecarError, match=words):
        write(tmp_path / "a.jpg.xmp", ["sea"])
    assert (tmp_path / "a.jpg.xmp").read_bytes() == sidecar


def test_a_sidecar_keeps_its_owner_and_mode(tmp_path: Path):
    file = tmp_path / "a.jpg.xmp"
    for mode in (0o600, 0o664):
        file.write_text(DARKTABLE)
        file.chmod(mode)
        if os.geteuid() == 0:
            os.chown(file, 1234, 1235)
        before = file.stat()
        write(file, ["trees"])
        after = file.stat()
        assert stat.S_IMODE(after.st_mode) == mode
        assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)
        assert "trees" in keywords(file.read_bytes())


def a_photo(file: Path) -> FoundPhoto:
    file.touch()
    photo = look(str(file))
    assert isinstance(photo, FoundPhoto)
    return photo


def test_a_photo_is_done_when_its_own_tags_are_there(tmp_path: Path):
    photo, other = a_photo(tmp_path / "a.jpg"), a_photo(tmp_path / "a.png")
    beside, stem = Sidecars(), Sidecars(stem=True)
    spec = TaggerSpec.read(ROOT / "model_repository/scenes")
    none, tagged = (Row(photo.path, 0, 0, np.full(len(spec.labels), score, np.float32)) for score in (0, 1))
    for sidecars in (beside, stem):
        file = sidecars.path(str(photo.file))
        assert not sidecars.done(photo, none, spec)
        file.write_text(DARKTABLE)
        for row, unlike in ((none, tagged), (tagged, none), (none, tagged)):
            assert not sidecars.done(photo, row, spec)
            assert sidecars.add([photo], [row], spec) == [row]
            assert sidecars.done(photo, row, spec)  # also without a tag
            assert not sidecars.done(photo, unlike, spec)
            assert not sidecars.done(other, row, spec)
        sidecars.add([photo], [tagged], spec)
        file.write_text(file.read_text().replace("<rdf:li>trees</rdf:li>", "", 2))
        assert sidecars.done(photo, tagged, spec)  # somebody does not want it


def test_photos_that_share_a_sidecar_each_keep_their_tags(tmp_path: Path):
    """Tagged at once, in any order, and again."""
    sidecars, spec = Sidecars(stem=True), TaggerSpec.read(ROOT / "model_repository/scenes")
    kinds = (".jpg", ".png", ".h~c")

    def tagged(photo: FoundPhoto, labels: set[int]) -> Row:
        scores = np.isin(np.arange(len(spec.labels)), list(labels)).astype(np.float32)
        (row,) = sidecars.add([photo], [Row(photo.path, 0, 0, scores)], spec)
        return row

    photos = [a_photo(tmp_path / f"{index}{kind}") for index in range(20) for kind in kinds]
    labels = [{3, at % 3} for at in range(len(photos))]
    with ThreadPoolExecutor(6) as pool:
        assert {row.error for row in pool.map(tagged, photos, labels)} == {None}
    for file in tmp_path.glob("*.xmp"):
        assert sorted(keywords(file.read_bytes())) == sorted(spec.labels[:4])
    assert {file.suffix for file in tmp_path.iterdir()} == {*kinds, ".xmp"}
    tagged(photos[0], {0})
    assert set(keywords((tmp_path / "0.xmp").read_bytes())) == {*spec.labels[:4]}  # others have 3
    tagged(photos[0], set())
    assert set(keywords((tmp_path / "0.xmp").read_bytes())) == {*spec.labels[1:4]}


def test_the_command_writes_sidecars_and_leaves_photos_alone(tag: Tag, photos: Path, tmp_path: Path):
    (photos / "sea-narwhals.jpg.xmp").write_text(DARKTABLE)
    (photos / "desert-pyramid.jpg.xmp").write_text("not XMP")
    before = {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in photos.glob("*.jpg")}
    answer = tag("photos", "--out", "t.parquet", "--xmp")
    assert answer.returncode == 1
    assert {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in photos.glob("*.jpg")} == before
    rows = rows_of(tmp_path / "t.parquet")
    assert rows["photos/desert-pyramid.jpg"]["error"] == "sidecar_broken"
    assert rows["photos/desert-pyramid.jpg"]["tags"] == ["desert"]
    assert (photos / "desert-pyramid.jpg.xmp").read_text() == "not XMP"
    assert keywords((photos / "sea-narwhals.jpg.xmp").read_bytes()) == ["holiday", "sea"]
    assert not (photos / "cut.jpg.xmp").exists()
    written = {file.name for file in photos.glob("*.xmp")}
    assert len(written) == 8

    (photos / "desert-pyramid.jpg.xmp").unlink()  # what was wrong is mended
    (photos / "mountains-path.jpg.xmp").unlink()
    again = tag("photos", "--out", "t.parquet", "--xmp")
    assert again.stdout.startswith("Tagged 2 photos"), again.stdout
    assert {file.name for file in photos.glob("*.xmp")} == written
    shutil.copy(photos / "sea-narwhals.jpg", photos / "desert-pyramid.jpg")
    tag("photos", "--out", "t.parquet")
    assert tag("photos", "--out", "t.parquet", "--xmp").stdout.startswith("Tagged 1 photo ")
    assert keywords((photos / "desert-pyramid.jpg.xmp").read_bytes()) == ["sea"]
    assert tag("photos", "--out", "u.csv", "--xmp-stem").returncode == 1
    assert keywords((photos / "desert-pyramid.xmp").read_bytes()) == ["sea"]


def scored(spec: TaggerSpec, *labels: str) -> Row:
    scores = np.array([label in labels for label in spec.labels], np.float32)
    return Row("a", 0, 0, scores)


@pytest.mark.parametrize("stem", [False, True])
def test_a_sidecar_in_upper_case_is_used(stem: bool, tmp_path: Path):
    spec = TaggerSpec.read(ROOT / "model_repository/scenes")
    photo = a_photo(tmp_path / "a.JPG")
    file = tmp_path / ("a.XMP" if stem else "a.JPG.XMP")
    file.write_text(DARKTABLE)
    assert Sidecars(stem).add([photo], [scored(spec, "trees")], spec)[0].error is None
    assert [found.name for found in tmp_path.iterdir() if found != file] == ["a.JPG"]
    assert keywords(file.read_bytes()) == ["holiday", "sea", "trees"]


def test_a_link_to_a_sidecar_stays_a_link(tmp_path: Path):
    spec = TaggerSpec.read(ROOT / "model_repository/scenes")
    photo = a_photo(tmp_path / "a.jpg")
    (tmp_path / "elsewhere").mkdir()
    for target in ("elsewhere/there.xmp", "elsewhere/new.xmp"):
        if "there" in target:
            (tmp_path / target).write_text(DARKTABLE)
        link = tmp_path / "a.jpg.xmp"
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        assert Sidecars().add([photo], [scored(spec, "trees")], spec)[0].error is None
        assert link.is_symlink()
        assert "trees" in keywords((tmp_path / target).read_bytes())


def test_a_folder_that_cannot_be_written_is_an_error_of_the_row(tmp_path: Path):
    spec = TaggerSpec.read(ROOT / "model_repository/scenes")
    photo = a_photo(tmp_path / "a.jpg")
    (tmp_path / "a.jpg.xmp").symlink_to("nowhere/a.jpg.xmp")
    (row,) = Sidecars().add([photo], [scored(spec, "trees")], spec)
    assert row.error == "sidecar_unwritable"
    assert {file.name for file in tmp_path.iterdir()} == {"a.jpg", "a.jpg.xmp"}


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
@pytest.mark.parametrize("name", ["a.jpg.xmp", "elsewhere"])
def test_something_other_than_a_file_is_left_alone(make: Callable[[Path], None], name: str, tmp_path: Path):
    spec = TaggerSpec.read(ROOT / "model_repository/scenes")
    photo = a_photo(tmp_path / "a.jpg")
    make(tmp_path / name)
    before = (tmp_path / name).stat()
    if name == "elsewhere":
        (tmp_path / "a.jpg.xmp").symlink_to(name)
    assert not Sidecars().done(photo, scored(spec, "trees"), spec)
    (row,) = Sidecars().add([photo], [scored(spec, "trees")], spec)
    assert (row.error, row.detail) == (
        "sidecar_unwritable",
        "The sidecar cannot be written: the existing path is not a file.",
    )
    assert os.path.samestat((tmp_path / name).stat(), before)


@pytest.mark.parametrize("content", [b"", b" \n"])
def test_an_empty_sidecar_starts_from_the_photo_too(content: bytes, tmp_path: Path):
    spec = TaggerSpec.read(ROOT / "model_repository/scenes")
    Image.new("RGB", (16, 16)).save(tmp_path / "a.jpg", xmp=DARKTABLE.encode())
    (tmp_path / "a.jpg.xmp").write_bytes(content)
    Sidecars().add([a_photo(tmp_path / "a.jpg")], [scored(spec, "trees")], spec)
    assert keywords((tmp_path / "a.jpg.xmp").read_bytes()) == ["holiday", "sea", "trees"]


def test_photos_that_share_a_sidecar_both_bring_their_keywords(tmp_path: Path):
    spec, sidecars = TaggerSpec.read(ROOT / "model_repository/scenes"), Sidecars(stem=True)
    other = DARKTABLE.replace("<rdf:li>sea</rdf:li>", "<rdf:li>port</rdf:li>").replace("places|", "towns|")
    for suffix, packet in (("jpg", DARKTABLE), ("png", other)):
        file = tmp_path / f"a.{suffix}"
        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", packet)
        Image.new("RGB", (16, 16)).save(file, **({"pnginfo": info} if suffix == "png" else {"xmp": packet.encode()}))
        sidecars.add([a_photo(file)], [scored(spec, "trees")], spec)
    assert keywords((tmp_path / "a.xmp").read_bytes()) == ["holiday", "sea", "trees", "port"]
    assert sidecars.done(a_photo(file), scored(spec, "trees"), spec)


def test_the_next_run_deletes_what_a_killed_one_left_of_a_sidecar(tmp_path: Path):
    photo, file = a_photo(tmp_path / "a.jpg"), tmp_path / "a.jpg.xmp"
    file.write_text(DARKTABLE)
    killed = f"""if True:
        import os, pathlib
        from serving.bulk.xmp.keywords import merge
        from serving.bulk.xmp.sidecars import Packet, write_sidecar
        os.fsync = lambda descriptor: os.kill(os.getpid(), 9)
        write_sidecar(pathlib.Path({str(file)!r}), Packet.new, lambda packet: merge(packet, ["sea", "trees"]))"""
    assert subprocess.run([sys.executable, "-c", killed], cwd=ROOT).returncode == -9
    (left,) = tmp_path.glob(".*")
    parent, dead = os.getppid(), left.name.split(".")[-1].partition("-")[0]
    others = [f".a.jpg.xmp.{parent}-0123abcd", f".a.jpg.xmp.{dead}-0123abc", f".a.jpg.xmp.{dead}-0123abcx"]
    others += [f".b.jpg.xmp.{dead}-0123abcd", f"a.jpg.xmp.{dead}-0123abcd", ".a.jpg.xmp.0-0123abcd"]
    others += [f".a.jpg.xmp.{10**30}-0123abcd"]
    for name in others:
        (tmp_path / name).touch()
    new = tmp_path / f".a.jpg.xmp.{dead}-00000000"  # another machine may be writing it
    for aside in tmp_path.glob("*-*"):
        os.utime(aside, (0, 0))
    (tmp_path / f".a.jpg.xmp.{os.getpid()}-0123abcd").touch()
    os.utime(tmp_path / f".a.jpg.xmp.{os.getpid()}-0123abcd", (0, 0))  # containers count processes from 1 again
    new.touch()
    spec = TaggerSpec.read(ROOT / "model_repository/scenes")
    assert Sidecars().add([photo], [scored(spec, "trees")], spec)[0].error is None
    assert "trees" in keywords(file.read_bytes())
    assert {found.name for found in tmp_path.iterdir()} == {"a.jpg", "a.jpg.xmp", new.name, *others}


def test_a_run_without_sidecars_does_not_load_what_they_need():
    check = "import sys, serving.bulk.tag_files, commands.tag; print({'lxml', 'serving.bulk.xmp'} & {*sys.modules})"
    assert subprocess.check_output([sys.executable, "-c", check], text=True, cwd=ROOT) == "set()\n"
