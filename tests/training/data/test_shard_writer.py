"""Writing shards: everything that was in the data is in them, byte for byte, and nothing is written over."""

import gc
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labelwise.errors import DataError
from tests.training.data.conftest import by_name
from training.data.labelled_data import LabelledData, LabelledPhotos
from training.data.layouts import read_data
from training.data.shard_reader import read_rows
from training.data.shard_writer import make_shards, write_shards


def members(folder: Path, split: str) -> dict[str, bytes]:
    found = {}
    for file in sorted(folder.glob(f"{split}-*.tar")):
        with tarfile.open(file) as tar:
            found |= {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    return found


@pytest.mark.parametrize("split", ["train", "val"])
def test_shards_hold_the_original_bytes_and_labels(split: str, shards: Path, labelled: LabelledData):
    photos = getattr(labelled, split)
    expected = by_name(labelled.labels, [file.name for file in photos.files], photos.targets)
    content = members(shards, split)
    assert len(content) == 2 * len(photos)
    found = {}
    for key, data in content.items():
        if key.endswith(".json"):
            told = json.loads(data)
            original = next(file for file in photos.files if file.name == told["image"])
            assert content[key.replace(".json", ".jpg")] == original.read_bytes()
            value = dict.fromkeys(told["labels"], 1.0) | dict.fromkeys(told["unknown"], -1.0)
            found[told["image"]] = {label: value.get(label, 0.0) for label in labelled.labels}
    assert found == expected


def test_dataset_json_tells_what_there_is(shards: Path, labelled: LabelledData):
    index = json.loads((shards / "dataset.json").read_text())
    assert tuple(index["labels"]) == labelled.labels
    assert index["fingerprint"] == labelled.describe().fingerprint
    assert index["train"]["present"] == labelled.describe().train_counts
    assert len(index["train"]["shards"]) > 3
    assert sum(shard["photos"] for shard in index["train"]["shards"]) == 16
    listed = {shard["file"]: shard["bytes"] for split in ("train", "val") for shard in index[split]["shards"]}
    assert listed == {file.name: file.stat().st_size for file in shards.glob("*.tar")}
    stored = np.load(shards / "train-targets.npy")
    assert stored.dtype == np.int8
    assert not np.array_equal(stored, labelled.train.targets)  # shuffled, so that one shard is like another
    assert np.array_equal(np.sort(stored.sum(axis=1)), np.sort(labelled.train.targets.sum(axis=1)))


def test_the_same_data_makes_the_same_shards(labelled: LabelledData, shards: Path, tmp_path: Path):
    (tmp_path / "odd %d:name").mkdir()
    write_shards(labelled, tmp_path / "odd %d:name", 6_000)
    again = {file.name: file.read_bytes() for file in (tmp_path / "odd %d:name").iterdir()}
    assert again == {file.name: file.read_bytes() for file in shards.iterdir()}


def test_nothing_is_written_over(labelled: LabelledData, shards: Path, dataset: Path, tmp_path: Path):
    for place in (shards, dataset / "labels.csv"):
        with pytest.raises(DataError, match="is not an empty folder"):
            write_shards(labelled, place, 6_000)
    with pytest.raises(DataError, match="in shards already"):
        make_shards(shards, tmp_path / "new", 6_000)


def test_broken_photos_do_not_get_in(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = shutil.copytree(dataset, tmp_path / "data")
    (folder / "images/00010.jpg").write_bytes(b"no photo")
    with pytest.raises(DataError, match=r"1 photo cannot be decoded: 00010\.jpg"):
        make_shards(folder, tmp_path / "shards", 10**6)
    assert not (tmp_path / "shards").exists()
    make_shards(folder, tmp_path / "shards", 10**6, skip_broken=True)
    assert "15 photos to train on and 4 for val" in " ".join(capsys.readouterr().out.split())
    assert len(read_data(tmp_path / "shards").train) == 15


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a disk with the given options; needs the right to."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(options: str) -> Path:
        if (
            not shutil.which("mount")
            or subprocess.run(
                ["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], capture_output=True, check=False
            ).returncode
        ):
            pytest.skip("this user may not mount a disk")
        return place

    yield mount
    if os.path.ismount(place):
        subprocess.run(["umount", "--lazy", place], check=True)


def test_a_full_disk_is_one_line_and_is_left_empty(
    small_disk: Callable[[str], Path], labelled: LabelledData, capfd: pytest.CaptureFixture[str]
):
    """The disk is full in a tar, when one is closed, in the targets, and at the last page of dataset.json."""
    disk, page = small_disk("size=10m"), os.sysconf("SC_PAGE_SIZE")
    write_shards(labelled, disk / "new", 6_000)
    needed = shutil.disk_usage(disk).used // page
    shutil.rmtree(disk / "new")
    for pages in (1, 2, 4, 9, needed - 3, needed - 2, needed - 1):
        small_disk(f"remount,size={pages * page}")
        for place in (disk, disk / "new"):
            with pytest.raises(DataError, match=rf"Shards cannot be written to {place}: No space left on device\.$"):
                write_shards(labelled, place, 6_000)
            assert not any(disk.iterdir())
    small_disk(f"remount,size={needed * page}")
    write_shards(labelled, disk, 6_000)
    gc.collect()
    assert capfd.readouterr().err == ""


def test_a_disk_that_cannot_be_written_is_one_line(small_disk: Callable[[str], Path], labelled: LabelledData):
    disk = small_disk("ro")
    for place in (disk, disk / "new"):
        with pytest.raises(DataError, match=r"Shards cannot be written to .*disk.*: Read-only file system\.$"):
            write_shards(labelled, place, 6_000)
    with pytest.raises(DataError, match="File name too long"):
        write_shards(labelled, disk / ("x" * 300), 6_000)


@pytest.mark.parametrize("there", [False, True])
def test_what_is_interrupted_leaves_nothing(there: bool, labelled: LabelledData, tmp_path: Path):
    place = tmp_path / "new"
    if there:
        place.mkdir()

    def interrupt(items: Iterable[Any]) -> Iterator[Any]:
        yield from list(items)[:9]
        assert len(list(place.glob("train-*.tar"))) > 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shards(labelled, place, 6_000, interrupt)
    assert place.exists() == there
    write_shards(labelled, place, 6_000)
    labelled.train.files[0].rename(tmp_path / "away")
    try:
        with pytest.raises(DataError, match="cannot be read: No such file"):
            write_shards(labelled, tmp_path / "other", 6_000)
    finally:
        (tmp_path / "away").rename(labelled.train.files[0])
    assert not (tmp_path / "other").exists()


def test_a_name_that_is_not_utf8_gets_into_shards(dataset: Path, tmp_path: Path):
    odd = tmp_path / os.fsdecode(b"caf\xe9.jpg")
    try:
        shutil.copy(next(dataset.glob("images/*.jpg")), odd)
    except OSError:
        pytest.skip("this file system has no such names")
    photos = LabelledPhotos((odd,), np.ones((1, 1), np.float32))
    write_shards(LabelledData(("cat",), photos, photos), tmp_path / "shards", 6_000)
    (sample,) = read_rows(read_data(tmp_path / "shards").train.shards, 0, 1)
    assert sample.name == "caf?.jpg"
    assert sample.read() == odd.read_bytes()
