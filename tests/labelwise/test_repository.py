"""Reading a model repository: a whole one opens, and each kind of half one says what it lacks."""

import shutil
from pathlib import Path

import pytest

from export.publish import publish, staging
from labelwise.errors import RepositoryError, SpecError
from labelwise.repository import WEIGHTS_FILE, Repository, default_tagger, version_folders
from labelwise.spec import SPEC_FILE, TaggerSpec
from tests.contracts import with_graph


def add(repository: Path, spec: TaggerSpec, content: bytes = b"a graph") -> TaggerSpec:
    """Publish `spec` by the real writer; only the graph is a stand-in, which reading a repository never looks into."""
    with staging(repository) as stage:
        weights = stage / WEIGHTS_FILE
        weights.write_bytes(content)
        spec = with_graph(spec, weights)
        publish(repository, stage, spec, "onnxruntime")
    return spec


@pytest.fixture
def pets(spec: TaggerSpec, tmp_path: Path) -> Path:
    add(tmp_path, spec)
    return tmp_path


def test_every_version_of_every_tagger_is_found(pets: Path, spec: TaggerSpec):
    second = add(pets, spec.model_copy(update={"version": 2}), b"a better graph")
    tenth = add(pets, spec.model_copy(update={"version": 10}), b"the best graph")
    other = add(pets, spec.model_copy(update={"name": "a_model_of_cars"}))
    taggers = Repository.open(pets).taggers
    assert list(taggers) == ["a_model_of_cars", "pets"]
    assert list(taggers["pets"]) == [1, 2, 10]  # by number, newest last
    assert [taggers["pets"][number].spec for number in (2, 10)] == [second, tenth]
    assert taggers["pets"][2].weights.read_bytes() == b"a better graph"
    assert taggers["a_model_of_cars"][1].spec == other


def test_the_bundled_repository_opens(repository: Path):
    versions = Repository.open(repository).taggers["scenes"]
    for number, version in versions.items():
        assert (version.spec.name, version.spec.version) == ("scenes", number)
        assert version.weights.is_file()


def test_what_is_no_model_is_passed_over(pets: Path):
    (pets / ".git").mkdir()
    (pets / "README.md").touch()
    (pets / "pets" / "notes").mkdir()
    (pets / "pets" / "3").touch()
    for number in ("01", "0", "٣", "1" + "0" * 15):
        (pets / "pets" / number).mkdir()
    assert list(Repository.open(pets).taggers["pets"]) == [1]
    (pets / "pets/1").rename(pets / "pets/001")
    with pytest.raises(RepositoryError, match="has no version folder such as pets/1"):
        Repository.open(pets)
    assert version_folders(pets / "nothing") == {}


@pytest.mark.parametrize(("folder", "words"), [("nowhere", "no model repository at"), (".", "holds no tagger")])
def test_no_repository_and_an_empty_one_differ(folder: str, words: str, tmp_path: Path):
    with pytest.raises(RepositoryError, match=words):
        Repository.open(tmp_path / folder)


@pytest.mark.parametrize(
    ("gone", "words"),
    [
        ("pets/1", "'pets' is incomplete: pets/ has no version folder"),
        ("pets/config.pbtxt", "'pets' is incomplete: pets/config.pbtxt is missing"),
        ("pets/tagger.json", "pets/tagger.json cannot be read"),
        ("pets/1/tagger.json", "pets/1/tagger.json cannot be read"),
        ("pets_decode", "'pets' is incomplete: pets_decode/config.pbtxt is missing"),
        ("pets_model", "'pets' is incomplete: pets_model/config.pbtxt is missing"),
        ("pets_model/tagger.json", "pets_model/tagger.json cannot be read"),
        ("pets_model/1", "'pets' is incomplete: pets_model/1/model.onnx is missing"),
        ("pets_model/1/model.onnx", "'pets' is incomplete: pets_model/1/model.onnx is missing"),
        ("pets_decode/1", "'pets' is incomplete: pets_decode/1"),
    ],
)
def test_each_missing_part_is_named(gone: str, words: str, pets: Path):
    path = pets / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises((RepositoryError, SpecError)) as caught:
        Repository.open(pets)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_parts_that_wait_for_their_ensemble_leave_other_taggers_readable(pets: Path, spec: TaggerSpec):
    """Export moves NAME_model and NAME_decode in first, so a reader meets them without NAME/, as after a killed one."""
    add(pets, spec.model_copy(update={"name": "cars"}))
    shutil.rmtree(pets / "cars")
    assert list(Repository.open(pets).taggers) == ["pets"]


def test_weights_that_are_not_the_exported_ones_are_refused(pets: Path):
    weights = pets / "pets_model/1" / WEIGHTS_FILE
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    with pytest.raises(RepositoryError, match="version 1 is not the file that was exported"):
        Repository.open(pets)


@pytest.mark.parametrize("change", [{"name": "dogs"}, {"version": 2}])
def test_a_contract_in_another_ones_folder_is_refused(change: dict[str, object], pets: Path):
    folder = pets / "pets/1"
    TaggerSpec.read(folder).model_copy(update=change).write(folder)
    with pytest.raises(SpecError, match="name, version"):
        Repository.open(pets)


def test_a_broken_contract_is_refused_by_field(pets: Path):
    file = pets / "pets/1" / SPEC_FILE
    file.write_text(file.read_text(encoding="utf-8").replace('"max_batch": 4', '"max_batch": 0'), encoding="utf-8")
    with pytest.raises(SpecError, match=r"pets/1/tagger\.json is not a valid tagger: max_batch"):
        Repository.open(pets)


def test_broken_versions_are_left_out_where_that_is_asked_for(pets: Path, spec: TaggerSpec):
    add(pets, spec.model_copy(update={"version": 2}), b"a better graph")
    add(pets, spec.model_copy(update={"version": 3}), b"the best graph")
    add(pets, spec.model_copy(update={"name": "cars"}))
    (pets / "pets_model/3" / WEIGHTS_FILE).write_bytes(b"half of it")
    (pets / "pets/2" / SPEC_FILE).write_text("{")
    (pets / "cars_decode/config.pbtxt").unlink()
    repository = Repository.open(pets, skip_broken=True)
    assert {name: list(versions) for name, versions in repository.taggers.items()} == {"pets": [1]}
    assert repository.broken.keys() == {("pets", 2), ("pets", 3), ("cars", 1)}
    assert "is not the file that was exported" in repository.broken["pets", 3]
    assert "cars_decode/config.pbtxt is missing" in repository.broken["cars", 1]
    with pytest.raises((RepositoryError, SpecError)):
        Repository.open(pets)
    shutil.rmtree(pets / "pets_model")
    with pytest.raises(RepositoryError, match="is missing"):
        Repository.open(pets, skip_broken=True)


@pytest.mark.parametrize(
    ("names", "chosen", "default"),
    [
        (["pets"], None, "pets"),
        (["everyday", "pets"], None, "everyday"),
        (["everyday", "pets"], "pets", "pets"),
        (["everyday", "pets"], "nope", None),
        (["pets", "scenes"], None, None),
        ([], None, None),
    ],
)
def test_who_names_no_tagger_gets_the_chosen_the_only_one_or_everyday(
    names: list[str], chosen: str | None, default: str | None
):
    assert default_tagger(names, chosen) == default
