"""Label Studio's exports in all their forms: who chose what, and which file a photo is."""

import json
from pathlib import Path
from typing import Any

import pytest

from labelwise.errors import DataError
from training.data.labelled_data import LabelledData
from training.data.layouts import read_data


def task(number: int, photo: str, *annotations: list[str] | None, **more: Any) -> dict[str, Any]:
    """One task of the JSON export; an annotation that is None was skipped."""
    return {
        "id": number,
        "annotations": [
            {
                "id": 100 * number + index,
                "completed_by": index,
                "result": [
                    {
                        "id": f"r{index}",
                        "type": "choices",
                        "from_name": "choice",
                        "to_name": "image",
                        "value": {"choices": chosen},
                    }
                ]
                if chosen
                else [],
                "was_cancelled": chosen is None,
                "ground_truth": False,
                "lead_time": 1.5,
            }
            for index, chosen in enumerate(annotations)
        ],
        "file_upload": photo.rpartition("/")[2],
        "drafts": [],
        "predictions": [{"result": [{"type": "choices", "value": {"choices": ["guess"]}}]}],
        "data": {"image": photo},
        "meta": {},
        **more,
    }


def put(root: Path, name: str, text: str, *photos: str) -> Path:
    for photo in photos:
        (root / photo).parent.mkdir(parents=True, exist_ok=True)
        (root / photo).touch()
    (root / name).write_text(text, encoding="utf-8")
    return root


def targets_of(data: LabelledData) -> dict[str, list[float]]:
    """By the names of the files."""
    files = (*data.train.files, *data.val.files)
    targets = (*data.train.targets.tolist(), *data.val.targets.tolist())
    return {file.name: target for file, target in zip(files, targets, strict=True)}


FILLERS = [task(100 + number, f"/data/upload/1/f{number}.jpg", ["cat"]) for number in range(6)]
FILLER_PHOTOS = tuple(f"f{number}.jpg" for number in range(6))


def test_json(tmp_path: Path):
    tasks = [
        task(1, "/data/upload/1/0a1b2c3d-one.jpg", ["cat", "dog"]),
        task(2, "/data/upload/1/0a1b2c3d-two.jpg", []),
        task(3, "/data/upload/1/0a1b2c3d-three.jpg", None),
        task(4, "/data/upload/1/0a1b2c3d-four.jpg"),
        task(5, "/data/upload/1/0a1b2c3d-five.jpg", ["cat", "dog"], ["cat"], None),
        *FILLERS,
    ]
    photos = ("one.jpg", "images/two.jpg", "three.jpg", "four.jpg", "five.jpg", *FILLER_PHOTOS)
    put(tmp_path, "project-1-at-2026-11-28.json", json.dumps(tasks), *photos)
    data = read_data(tmp_path)
    assert data.labels == ("cat", "dog")
    found = targets_of(data)
    assert {name: found.get(f"{name}.jpg") for name in ("one", "two", "three", "four", "five")} == {
        "one": [1, 1],
        "two": [0, 0],
        "three": None,
        "four": None,
        "five": [1, -1],
    }
    assert data.layout == "Label Studio's export (project-1-at-2026-11-28.json)"
    assert data.notes == (
        "Annotators differ about 1 photo: what only some of them chose is unknown there.",
        "Left out, because nothing here labels them: 2 photos, in the folder itself (2).",
    )
    nested = put(tmp_path / "nested", "result.json", json.dumps([tasks]), *photos)  # as its converter writes it
    assert read_data(nested).describe() == data.describe()
    alone = read_data(tmp_path / "project-1-at-2026-11-28.json")
    assert alone.describe() == data.describe()
    assert "Left out: 2 photos that nobody annotated." in alone.notes


def test_labels_of_regions_count_and_other_results_are_said(tmp_path: Path):
    one = task(1, "/data/upload/1/one.jpg", ["cat"])
    one["annotations"][0]["result"] += [
        {"type": "rectanglelabels", "value": {"x": 1, "y": 1, "width": 2, "height": 2, "rectanglelabels": ["dog"]}},
        {"type": "rating", "value": {"rating": 4}},
        {"type": "relation", "from_id": "a", "to_id": "b"},
    ]
    data = read_data(put(tmp_path, "export.json", json.dumps([one, *FILLERS]), "one.jpg", *FILLER_PHOTOS))
    assert targets_of(data)["one.jpg"] == [1, 1]
    assert data.notes == ("Left out: results of the kind rating, relation.",)


ABOUT = {"annotator": 1, "created_at": "2026-11-28T10:00:00Z", "updated_at": "2026-11-28T10:00:00Z", "lead_time": 2.5}


@pytest.mark.parametrize("name", ["choice", "sentiment"])
def test_json_min_and_csv_say_the_same(name: str, tmp_path: Path):
    cells: list[Any] = ["cat, small", {"choices": ["cat, small", "dog"]}, "dog", {"choices": ["dog"]}, "cat, small"]
    records = [
        {"image": f"/data/upload/1/{n}.jpg", "id": n, name: cell, **ABOUT, "annotation_id": n + 1}
        for n, cell in enumerate(cells)
    ]
    photos = tuple(f"{n}.jpg" for n in range(len(cells)))
    put(tmp_path / "json", "min.json", json.dumps(records), *photos)

    def quoted(cell: object) -> str:
        text = json.dumps(cell) if isinstance(cell, dict) else str(cell)
        return '"' + text.replace('"', '""') + '"'

    header = ",".join(records[0])
    rows = [",".join(map(quoted, record.values())) for record in records]
    put(tmp_path / "csv", "export.csv", "\n".join([header, *rows]), *photos)
    rows = ["\t".join(map(quoted, record.values())) for record in records]
    put(tmp_path / "tsv", "export.tsv", "\n".join([header.replace(",", "\t"), *rows]), *photos)
    data = read_data(tmp_path / "json")
    assert data.labels == ("cat, small", "dog")
    found = targets_of(data)
    assert [found[f"{n}.jpg"] for n in range(5)] == [[1, 0], [1, 1], [0, 1], [0, 1], [1, 0]]
    for place in ("csv", "csv/export.csv", "tsv", "json/min.json"):
        assert read_data(tmp_path / place).describe() == data.describe()


def test_json_min_whose_first_photo_lacks_a_result(tmp_path: Path):
    records = [
        {"caption": "x", "image": f"{n}.jpg", "id": n, **one, **ABOUT, "annotation_id": n + 1}
        for n, one in enumerate([{"sky": "blue"}, {"sky": "blue", "sea": "calm"}, *[{"sea": "calm"}] * 4])
    ]
    data = read_data(put(tmp_path, "min.json", json.dumps(records), *(f"{n}.jpg" for n in range(6))))
    found = targets_of(data)
    assert data.labels == ("blue", "calm")
    assert [found[f"{n}.jpg"] for n in range(3)] == [[1, 0], [1, 1], [0, 1]]
    assert "Left out: the columns caption." in data.notes


def test_a_csv_with_results_of_any_name(tmp_path: Path):
    """As label-studio-sdk 2.1.2 writes choices named weather and boxes named obj."""
    boxes = '"[{""x"":1,""rotation"":0,""rectanglelabels"":[""cat""],""original_width"":48}]"'
    choices = '"{""choices"":[""sun"",""rain, heavy""]}"'
    rows = [f"{n},me,{n},1.0,{boxes},/data/upload/1/{n}.jpg,s{n},{choices if n % 2 else 'sun'}" for n in range(1, 7)]
    text = "\n".join(["annotation_id,annotator,id,lead_time,obj,photo,source,weather", *rows])
    data = read_data(put(tmp_path, "result.csv", text, *(f"{n}.jpg" for n in range(1, 7))))
    assert data.labels == ("cat", "rain, heavy", "sun")
    found = targets_of(data)
    assert (found["1.jpg"], found["2.jpg"]) == ([1, 1, 1], [1, 0, 1])
    assert "Left out: the columns source." in data.notes


def test_a_csv_of_all_tasks_and_of_several_annotators(tmp_path: Path):
    """In another order, with a column of the task's own, and with a row that nobody annotated."""
    rows = [
        "11,1,cat,hello,1,/data/upload/1/1.jpg",
        "12,2,dog,hello,1,/data/upload/1/1.jpg",
        ",,,hello,2,/data/upload/1/2.jpg",
        *(f"{n}0,1,cat,,{n},/data/upload/1/{n}.jpg" for n in range(3, 9)),
    ]
    text = "\n".join(["annotation_id,annotator,choice,caption,id,image", *rows])
    data = read_data(put(tmp_path, "e.csv", text, *(f"{n}.jpg" for n in range(1, 9))))
    found = targets_of(data)
    assert (found["1.jpg"], found.get("2.jpg"), found["3.jpg"]) == ([-1, -1], None, [1, 0])
    assert "Left out: the columns caption." in data.notes


@pytest.mark.parametrize(
    ("named", "there"),
    [
        ("/data/upload/1/0a1b2c3d-a.jpg", "0a1b2c3d-a.jpg"),
        ("/data/upload/1/0a1b2c3d-a.jpg", "a.jpg"),
        ("/data/upload/1/0a1b2c3d-a.jpg", "upload/1/0a1b2c3d-a.jpg"),
        ("/data/upload/1/0a1b2c3d-a.jpg", "media/upload/1/0a1b2c3d-a.jpg"),
        ("/data/upload/1/0a1b2c3d-my_cat_1.jpg", "my cat (1).jpg"),
        ("/data/upload/1/0a1b2c3d-F%C3%BC%C3%9Fe__Meer.jpg", "Füße & Meer.jpg"),
        ("/data/local-files/?d=deep/a%20b.jpg", "deep/a b.jpg"),
        ("/data/local-files/?d=home/me/deep/a.jpg", "deep/a.jpg"),
        ("s3://bucket/deep/a.jpg", "deep/a.jpg"),
        ("https://host/deep/a.jpg?signature=x", "a.jpg"),
        ("0a1b2c3d-a.jpg", "images/a.jpg"),
    ],
)
def test_the_photo_is_found(named: str, there: str, tmp_path: Path):
    tasks = [task(1, named, ["dog"]), *FILLERS]
    data = read_data(put(tmp_path, "export.json", json.dumps(tasks), there, "other.jpg", *FILLER_PHOTOS))
    assert tmp_path / there in data.listed


def test_uploads_of_one_name_are_refused(tmp_path: Path):
    tasks = [task(1, "/data/upload/1/0a1b2c3d-my_cat.jpg", ["dog"]), *FILLERS]
    put(tmp_path, "export.json", json.dumps(tasks), "a/my cat.jpg", "b/my cat.jpg", *FILLER_PHOTOS)
    with pytest.raises(DataError, match=r"my_cat\.jpg, which 2 files fit: .*a/my cat\.jpg, .*b/my cat\.jpg"):
        read_data(tmp_path)


@pytest.mark.parametrize(
    ("tasks", "words"),
    [
        ([task(1, "a.jpg")], "has no annotated photos"),
        (
            [task(1, "a.jpg", annotations=[{"result": [{"type": "taxonomy", "value": {"taxonomy": [["a", "b"]]}}]}])],
            "has no choices and no labels of regions. Left out: results of the kind taxonomy.",
        ),
        ([task(7, "a.jpg", ["cat"], data={"text": "hello"})], "task 7 must name one photo"),
        ([task(7, "a.jpg", ["cat"], annotations=[{"completed_by": 1}])], "task 7: the annotations are not as exported"),
        ([{"image": "a.jpg", "id": 1, "one": "x", "two": "y", "annotation_id": 3}], "has no column of choices"),
    ],
)
def test_what_is_wrong_is_named(tasks: list[dict[str, Any]], words: str, tmp_path: Path):
    put(tmp_path, "export.json", json.dumps(tasks), "a.jpg")
    for source in (tmp_path, tmp_path / "export.json"):
        with pytest.raises(DataError) as caught:
            read_data(source)
        assert words in str(caught.value)
        assert "export.json" in str(caught.value)


def test_two_exports_in_one_folder_are_refused(tmp_path: Path):
    for name in ("a.json", "b.json"):
        put(tmp_path, name, json.dumps(FILLERS), *FILLER_PHOTOS)
    with pytest.raises(DataError, match=r"several exports of Label Studio: give one of .*a\.json, .*b\.json"):
        read_data(tmp_path)
    (tmp_path / "labels.csv").write_text("image,cat\n" + "".join(f"{name},1\n" for name in FILLER_PHOTOS))
    assert read_data(tmp_path).layout == "a CSV list"  # what is written for us comes first
