"""A lesson on the bundled tagger: what it publishes, what stays equal to the bit, and what it refuses."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from export.check.configs import check_configs
from export.check.contract import check_copies, check_files, read_versions
from export.check.graph_file import check_graph
from export.onnx_file import load_structure, open_session
from labelwise.errors import DataError, LabelwiseError
from labelwise.image import load_pixels
from labelwise.repository import Repository, TaggerVersion, version_folders
from teaching.given_photos import GivenPhotos, from_folders
from teaching.lesson import back_to, forget, teach
from tests.conftest import ROOT

PHOTOS = sorted((ROOT / "tests/assets/photos-everyday").glob("*.jpg"))[:2]
NAMES = ["scores", "embeddings", "attention"]
Answers = dict[str, list[np.ndarray]]


def version(repository: Path, number: int) -> TaggerVersion:
    return Repository.open(repository).taggers["everyday"][number]


def answers(repository: Path, number: int) -> Answers:
    """By graph: the outputs of the test photos, one at a time and together."""
    found = version(repository, number)
    pixels = np.stack([load_pixels(file.read_bytes(), 384, 384, "squash", "bicubic") for file in PHOTOS])

    def run(session: ort.InferenceSession) -> list[np.ndarray]:
        batches = (pixels, pixels[:1])
        return [values for batch in batches for values in session.run(NAMES, {"image": batch})]

    return {graph.file: run(open_session(found.weights.with_name(graph.file), 1)) for graph in found.spec.graphs}


def assert_same(one: tuple[TaggerVersion, Answers], other: tuple[TaggerVersion, Answers], but: set[str]) -> None:
    """Every label that both versions have, except those in `but`, has the same outputs to the bit."""
    kept = [label for label in one[0].spec.labels if label in other[0].spec.labels and label not in but]
    assert len(kept) > 280
    columns = [[each[0].spec.labels.index(label) for label in kept] for each in (one, other)]
    assert one[1].keys() == other[1].keys() == {"model.onnx", "model.int8.onnx"}
    for file in one[1]:
        for ours, theirs in zip(one[1][file], other[1][file], strict=True):
            assert np.array_equal(ours[:, columns[0]], theirs[:, columns[1]])


def given(label: str, pictures: tuple[Path, Path]) -> GivenPhotos:
    return from_folders(label, [pictures[0]], [pictures[1]])


def test_labels_come_change_and_go_and_no_other_changes_a_bit(everyday_in_int8_too: Path, pictures: tuple[Path, Path]):
    everyday = everyday_in_int8_too
    first = version(everyday, 1), answers(everyday, 1)
    lesson = teach(everyday, "everyday", given("stripes", pictures))
    second = version(everyday, 2), answers(everyday, 2)
    assert second[0].spec == lesson.spec
    assert second[0].spec.labels == (*first[0].spec.labels, "stripes")
    assert (second[0].spec.taught["stripes"].photos_with, second[0].spec.taught["stripes"].improved) == (4, False)
    assert_same(first, second, set())

    has = lesson.learned[0].has
    others = GivenPhotos(("dog", "discs"), lesson.learned[0].files, np.stack([has, ~has], axis=1))
    teach(everyday, None, others)  # one of the trained head, and one more beside it
    third = version(everyday, 3), answers(everyday, 3)
    assert_same(second, third, {"dog"})
    forget(everyday, None, "discs")
    forget(everyday, None, "cat", keep=2)
    assert list(version_folders(everyday / "everyday")) == [1, 4, 5]  # no lesson can make the first again
    last = version(everyday, 5), answers(everyday, 5)
    assert last[0].spec.labels == tuple(label for label in second[0].spec.labels if label != "cat")
    assert {label: record.improved for label, record in last[0].spec.taught.items()} == {"dog": True, "stripes": False}
    assert_same(third, last, set())

    newest = back_to(everyday, None, 4).spec
    assert newest.labels == version(everyday, 4).spec.labels
    assert_same((version(everyday, 4), answers(everyday, 4)), (version(everyday, 6), answers(everyday, 6)), set())

    readable, findings = read_versions(everyday, "everyday")
    findings += [*check_configs(everyday, {"everyday": newest}), check_copies(everyday, readable[-1])]
    findings += [finding for found in readable for each in found.each_graph for finding in check_files(everyday, each)]
    for each in readable[-1].each_graph:
        findings += check_graph(each, load_structure(each.weights), [])
    assert [found for found in findings if found.status != "ok"] == []


def test_two_teachers_take_turns(everyday: Path, pictures: tuple[Path, Path]):
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda label: teach(everyday, None, given(label, pictures)), ("stripes", "bars")))
    assert sorted(version(everyday, 3).spec.labels[-2:]) == ["bars", "stripes"]


def test_a_taught_label_is_seen_where_it_is(everyday: Path, pictures: tuple[Path, Path]):
    """Broken and repeated photos are listed and left out."""
    files = [file for folder in pictures for file in sorted(folder.iterdir())]
    (pictures[0] / "broken.jpg").write_bytes(b"no photo")
    shutil.copy(pictures[0] / "0.png", pictures[0] / "again.png")
    lesson = teach(everyday, None, given("stripes", pictures))
    assert len(lesson.learned[0].files) == 8
    assert sorted(each.file.name for each in lesson.left_out) == ["again.png", "broken.jpg"]
    found = version(everyday, 2)
    session = open_session(found.weights, 1)
    pixels = np.stack([load_pixels(file.read_bytes(), 384, 384, "squash", "bicubic") for file in files])
    scores, embeddings, attention = (values[:, -1] for values in session.run(NAMES, {"image": pixels}))
    assert min(scores[:4]) > found.spec.thresholds[-1] > max(scores[4:])
    assert np.linalg.norm(embeddings, axis=-1) == pytest.approx(1, abs=1e-4)
    assert attention.sum(axis=(-2, -1)) == pytest.approx(1, abs=1e-4)


def test_what_cannot_be_taught_is_refused_in_one_line(everyday: Path, pictures: tuple[Path, Path]):
    before = sorted(everyday.rglob("*"))
    yes, no = pictures
    cases = [
        (from_folders("Dog", [yes], [no]), "the label 'dog' already"),
        (from_folders("stripes", [yes / "0.png"], [no]), "1 photo with it: give at least 3"),
        (from_folders("stripes", [yes / "0.png", yes / "gone.png"], [no]), r"Left out 1: .*gone\.png \(No such file"),
    ]
    shutil.copy(yes / "0.png", no / "copy.png")
    cases.append((from_folders("stripes", [yes], [no]), "The same photo is given as 'stripes' and as not"))
    for photos, message in cases:
        with pytest.raises(DataError, match=message):
            teach(everyday, None, photos)
    for number, message in ((1, "at version 1 already"), (2, "no whole version 2; it has 1")):
        with pytest.raises(DataError, match=message):
            back_to(everyday, None, number)
    with pytest.raises(DataError, match="no label 'stripes' to forget"):
        forget(everyday, None, "stripes")
    (no / "copy.png").unlink()
    for part in ("scenes", "scenes_decode", "scenes_model"):
        shutil.copytree(ROOT / "model_repository" / part, everyday / part)
    with pytest.raises(LabelwiseError, match=r"scenes cannot be taught.*choose --model everyday, or train one"):
        teach(everyday, "scenes", given("stripes", pictures))
    assert [path for path in sorted(everyday.rglob("*")) if "scenes" not in str(path.relative_to(everyday))] == before
