"""Shards as labelled photos: from a folder, over HTTP, through a command; and their faults are reported."""

import json
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from labelwise.errors import DataError
from labelwise.spec import ImageSpec
from tests.training.data.conftest import by_name, decoded
from training.data.eval_batches import EvalBatches
from training.data.labelled_data import LabelledData
from training.data.layouts import read_data
from training.data.photo_check import check_photos
from training.data.shard_reader import ShardedData, ShardedPhotos, read_rows

IMAGE = ImageSpec(height=16, width=24)


@pytest.fixture(params=["folder", "file", "http", "pipe"])
def source(request: pytest.FixtureRequest, shards: Path) -> str:
    if request.param == "http":
        return request.getfixturevalue("server")[0] + "/dataset.json"
    return {"folder": f"{shards}", "file": f"{shards}/dataset.json", "pipe": f"pipe:cat '{shards}'/{{}}"}[request.param]


@pytest.fixture
def copy(shards: Path, tmp_path: Path) -> Path:
    return shutil.copytree(shards, tmp_path / "copy")


def names_of(photos: ShardedPhotos) -> list[str]:
    return [sample.name for sample in read_rows(photos.shards, 0, len(photos))]


def test_they_are_what_they_were_made_from(source: str, labelled: LabelledData):
    data = check_photos(read_data(source))
    assert isinstance(data, ShardedData)
    assert data.labels == labelled.labels
    assert data.describe() == labelled.describe()
    for split, original in ((data.train, labelled.train), (data.val, labelled.val)):
        assert len(split) == len(original)
        expected = by_name(labelled.labels, [file.name for file in original.files], original.targets)
        assert by_name(data.labels, names_of(split), split.targets) == expected
    pixels = np.concatenate(list(EvalBatches(data.val, IMAGE, 3)))
    assert np.array_equal(pixels, decoded(labelled.val.files, IMAGE))


def test_any_rows_can_be_read_and_only_their_shards_are(server: tuple[str, list[str]]):
    url, asked = server
    photos = read_data(url).train
    everything = [sample.row for sample in read_rows(photos.shards, 0, len(photos))]
    assert everything == list(range(16))
    for start, stop in ((0, 1), (5, 9), (15, 16), (7, 7)):
        asked.clear()
        assert [sample.row for sample in read_rows(photos.shards, start, stop)] == everything[start:stop]
        needed = [s for s in photos.shards if range(max(start, s.first), min(stop, s.first + s.photos))]
        assert asked == [shard.url.rpartition("/")[2] for shard in needed]


@pytest.mark.parametrize("world", [1, 3])
def test_val_is_scored_in_order_by_any_number_of_ranks(world: int, source: str, labelled: LabelledData):
    photos = read_data(source).val
    ranks = [EvalBatches(photos, IMAGE, 2, rank, world, cache="none") for rank in range(world)]
    for _ in range(2):
        pixels = np.concatenate([batch for rank in ranks for batch in rank])
        assert np.array_equal(pixels, decoded(labelled.val.files, IMAGE))


def test_a_choice_of_labels(shards: Path, labelled: LabelledData):
    wanted = labelled.labels[3:0:-2]
    data, expected = read_data(shards).select(wanted), labelled.select(wanted)
    assert data.labels == wanted
    assert np.array_equal(data.val.targets, expected.val.targets)
    assert np.array_equal(np.sort(data.train.targets, axis=0), np.sort(expected.train.targets, axis=0))
    assert data.describe().train_counts == expected.describe().train_counts
    assert data.describe().fingerprint != read_data(shards).describe().fingerprint
    assert data.select(wanted).describe() == data.describe()
    with pytest.raises(DataError, match="no label wolf"):
        data.select(["wolf"])


def test_missing_and_short_shards_are_named_before_anything_is_read(copy: Path, server: tuple[str, list[str]], shards):
    (copy / "train-000001.tar").unlink()
    (copy / "val-000000.tar").write_bytes(b"short")
    with pytest.raises(DataError, match=r"2 shards .*train-000001\.tar \(missing\), .*val-000000\.tar \(5 bytes, not"):
        check_photos(read_data(copy))
    data = read_data(server[0])
    away = shards / "train-000001.tar"
    away.rename(shards / "away")
    try:
        with pytest.raises(DataError, match=r"1 shard cannot .*train-000001\.tar \(HTTP 404\)"):
            check_photos(data)
        with pytest.raises(
            DataError, match=r"train-000001\.tar cannot be read: the server does not have it, or refuses it\.$"
        ):
            names_of(data.train)
    finally:
        (shards / "away").rename(away)


def test_damaged_shards_are_named(copy: Path):
    shard = copy / "train-000000.tar"
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"The shard .*train-000000\.tar cannot be read: "):
        names_of(read_data(copy).train)
    shutil.copy(copy / "val-000000.tar", shard)
    index = json.loads((copy / "dataset.json").read_text())
    index["train"]["shards"][0]["photos"] = 99
    (copy / "dataset.json").write_text(json.dumps(index))
    with pytest.raises(DataError, match=r"train-000000\.tar holds \d+ photos, not \d+"):
        names_of(read_data(copy).train)
    count = len(read_data(copy).train)
    assert count > 99
    with pytest.raises(DataError, match=rf"train-targets\.npy does not fit the {count} photos"):
        _ = read_data(copy).train.targets
    (copy / "train-targets.npy").write_bytes(b"no array")
    with pytest.raises(DataError, match=r"train-targets\.npy cannot be read"):
        _ = read_data(copy).train.targets


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../x.tar", "pipe:touch x", "http://x/y.tar", "-x.tar", "a b.tar", "$(x)"]
)
def test_a_list_may_name_nothing_but_files_beside_it(name: str, copy: Path):
    index = json.loads((copy / "dataset.json").read_text())
    index["train"]["shards"][0]["file"] = name
    (copy / "dataset.json").write_text(json.dumps(index))
    with pytest.raises(DataError, match="is not a list of shards"):
        read_data(copy)


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("http://127.0.0.1:9/x", "dataset.json cannot be read: the server does not answer."),
        ("pipe:exit 3 #{}", "dataset.json cannot be read: its command ended with exit code 3."),
        ("pipe:cat /nowhere", "in place of the name of a file."),
        ("nosuch://x", ""),
    ],
)
def test_a_place_without_shards_is_one_line(place: str, reason: str):
    with pytest.raises(DataError) as caught:
        read_data(place)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(place.split("{")[0])
    assert str(caught.value).endswith(reason)


def test_a_server_that_dies_is_one_line(shards: Path):
    handler = partial(SimpleHTTPRequestHandler, directory=str(shards))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        data = read_data(f"http://127.0.0.1:{http.server_port}")
        http.shutdown()
        thread.join()
    with pytest.raises(DataError, match=r"shards cannot be used: http://\S+ \(Connection refused\), "):
        check_photos(data)
    with pytest.raises(DataError, match=r"train-targets\.npy cannot be read: the server does not answer\.$"):
        _ = data.train.targets
    with pytest.raises(DataError, match=r"train-000000\.tar cannot be read: the server does not answer\.$"):
        names_of(data.train)
