"""What a look at the repository finds, without running a model."""

import shutil
from pathlib import Path

import pytest

from labelwise.repository import Repository
from serving.watching import Look, RepositoryWatch, seconds_to_next
from tests.serving.publishing import publish_next

ONE, TWO, OTHER = ("scenes", 1), ("scenes", 2), ("other", 1)


@pytest.fixture
def changing(repository: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(repository, tmp_path / "repository"))


@pytest.fixture
def watch(changing: Path) -> RepositoryWatch:
    return watching(Repository.open(changing))


def watching(opened: Repository) -> RepositoryWatch:
    return RepositoryWatch(opened.path, opened.keys)


def found(look: Look) -> list[tuple[str, int]]:
    return [version.key for version in look.new]


def test_each_version_is_found_once(watch: RepositoryWatch, changing: Path) -> None:
    assert watch.look() == Look((), frozenset([ONE]))
    publish_next(changing)
    look = watch.look()
    assert (found(look), look.present) == ([TWO], {ONE, TWO})
    assert found(watch.look()) == []


def test_finds_a_version_published_between_opening_and_watching(changing: Path) -> None:
    opened = Repository.open(changing)
    publish_next(changing)
    assert found(watching(opened).look()) == [TWO]


def test_a_version_that_arrives_file_by_file_is_found_when_it_is_complete(
    watch: RepositoryWatch, changing: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """rsync copies in this way."""
    elsewhere = Path(shutil.copytree(changing, tmp_path / "elsewhere"))
    publish_next(elsewhere)
    for part in ("scenes", "scenes_decode", "scenes_model"):
        assert found(watch.look()) == []
        shutil.copytree(elsewhere / part / "2", changing / part / "2")
    assert found(watch.look()) == [TWO]
    assert all("scenes version 2 is not served: The tagger" in line for line in caplog.messages)


def test_a_version_published_again_under_its_number_is_found(watch: RepositoryWatch, changing: Path) -> None:
    for part in ("scenes", "scenes_decode", "scenes_model"):
        shutil.rmtree(changing / part)
    assert publish_next(changing).version == 1
    assert found(watch.look()) == [ONE]


def test_a_vanished_repository_is_logged_once_and_retires_nothing(
    watch: RepositoryWatch, changing: Path, caplog: pytest.LogCaptureFixture
) -> None:
    changing.rename(changing.with_name("away"))
    assert watch.look().retired({ONE}) == watch.look().retired({ONE}) == set()
    assert len(caplog.records) == 1
    changing.with_name("away").rename(changing)
    assert watch.look().retired({ONE}) == set()


@pytest.mark.parametrize(
    ("present", "served", "retired"),
    [
        ({TWO}, {ONE, TWO}, {ONE}),
        ({TWO}, {ONE}, set()),  # 2 is broken: 1 is the last that can answer
        ({OTHER}, {ONE, OTHER}, {ONE}),  # the whole tagger was removed
        (set(), {ONE}, set()),
    ],
)
def test_what_is_retired(present: set, served: set, retired: set) -> None:
    assert Look((), frozenset(present)).retired(served) == retired


def test_all_workers_look_at_the_same_moments() -> None:
    moments = {round(now + seconds_to_next(2.0, now), 9) for now in (100.0, 100.3, 100.999)}
    assert moments == {102.0}
    for now in (0.0, 0.001, 0.999, 1.0, 1.5, 1.9999):  # a timer may fire a little early
        left = seconds_to_next(2.0, now)
        assert 1.0 <= left <= 3.0
        assert (now + left) % 2.0 == pytest.approx(0, abs=1e-9)
