"""Publishing is all or nothing for whoever reads the repository, killed at whichever step."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from export.publish import check_compatible, next_version, publish, staging
from labelwise.errors import RepositoryError
from labelwise.image import load_pixels
from labelwise.repository import WEIGHTS_FILE, Repository
from labelwise.spec import ImageSpec, TaggerSpec, sha256_of

ROOT = Path(__file__).parent.parent.parent


def add(repository: Path, spec: TaggerSpec, version: int = 1) -> None:
    with staging(repository) as stage:
        weights = stage / WEIGHTS_FILE
        weights.write_bytes(f"graph {version}".encode())
        spec = spec.model_copy(update={"version": version, "weights_sha256": sha256_of(weights)})
        publish(repository, stage, weights, spec, "onnxruntime")


def files(repository: Path) -> set[str]:
    return {str(path.relative_to(repository)) for path in repository.rglob("*") if path.is_file()}


def layout(version: int) -> set[str]:
    return {
        f"pets/{version}/tagger.json",
        f"pets_decode/{version}/model.py",
        f"pets_decode/{version}/labelwise_image.py",
        f"pets_model/{version}/model.onnx",
        f"pets_model/{version}/model.py",
    }


SHARED = {
    *(f"{part}/config.pbtxt" for part in ("pets", "pets_decode", "pets_model")),
    *(f"{part}/{name}" for part in ("pets", "pets_model") for name in ("labels.txt", "tagger.json")),
    "pets_model/configs/python.pbtxt",
}


def test_versions_lie_side_by_side_and_nothing_else_does(spec: TaggerSpec, tmp_path: Path):
    repository = tmp_path / "new" / "repository"
    assert next_version(repository, "pets") == 1
    add(repository, spec, 1)
    assert files(repository) == SHARED | layout(1)
    assert next_version(repository, "pets") == 2
    add(repository, spec, 2)
    assert files(repository) == SHARED | layout(1) | layout(2)
    assert {path.name for path in repository.iterdir()} == {"pets", "pets_decode", "pets_model"}
    versions = Repository.open(repository).taggers["pets"]
    assert [version.weights.read_text() for version in versions.values()] == ["graph 1", "graph 2"]
    assert TaggerSpec.read(repository / "pets").version == TaggerSpec.read(repository / "pets_model").version == 2
    assert (repository / "pets/labels.txt").read_text(encoding="utf-8").splitlines() == list(spec.labels)
    for path in repository.rglob("*"):
        assert path.stat().st_mode & 0o044 == 0o044, path  # Triton often runs as another user


def test_the_decoder_in_the_repository_is_the_projects_own(spec: TaggerSpec, tmp_path: Path):
    add(tmp_path, spec)
    photo = next((ROOT / "tests/assets/photos").glob("*.jpg")).read_bytes()
    scope: dict[str, object] = {"__name__": "labelwise_image"}
    exec((tmp_path / "pets_decode/1/labelwise_image.py").read_text(encoding="utf-8"), scope)
    assert (scope["load_pixels"](photo, 32, 48) == load_pixels(photo, 32, 48)).all()  # type: ignore[operator]


def test_a_version_is_not_overwritten(spec: TaggerSpec, tmp_path: Path):
    add(tmp_path, spec)
    before = {name: (tmp_path / name).read_bytes() for name in files(tmp_path)}
    with pytest.raises(RepositoryError, match="already has a version 1"):
        add(tmp_path, spec)
    assert {name: (tmp_path / name).read_bytes() for name in files(tmp_path)} == before


@pytest.mark.parametrize(
    "change",
    [
        {"labels": ("cat", "großer Hund", "lake")},
        {"labels": ("großer Hund", "cat", "sea")},
        {"image": ImageSpec(height=32, width=48, resize="crop")},  # versions share one decoder's config.pbtxt
        {"max_batch": 64},  # and one model's
    ],
)
def test_versions_that_cannot_share_a_config_are_refused(change: dict[str, object], spec: TaggerSpec, tmp_path: Path):
    add(tmp_path, spec)
    check_compatible(tmp_path, spec.model_copy(update={"version": 2, "thresholds": (0.1, 0.2, 0.3)}))
    check_compatible(tmp_path, spec.model_copy(update={"name": "cars", **change}))
    with pytest.raises(RepositoryError, match="versions must share"):
        check_compatible(tmp_path, spec.model_copy(update={"version": 2, **change}))


@pytest.mark.parametrize("place", ["file", "file/repository"])
def test_where_nothing_can_be_written_is_named(place: str, tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(RepositoryError, match="cannot be written"), staging(tmp_path / place):
        pass


class Killed(BaseException):
    pass


def kill_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop before the nth time that anything is moved: moves are all that a reader can see of a publication."""
    left = iter(range(step))
    for name in ("rename", "replace"):
        move = getattr(Path, name)

        def counted(self: Path, target: Path, move=move) -> Path:
            if next(left, None) is None:
                raise Killed
            return move(self, target)

        monkeypatch.setattr(Path, name, counted)


@pytest.mark.parametrize(
    "published", [{"pets": 1}, {"cars": 1}], ids=["second-version", "first-version-beside-another"]
)
def test_a_reader_never_sees_half_a_version(
    published: dict[str, int], spec: TaggerSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    version = 1 + published.get("pets", 0)
    for step in range(40):
        repository = tmp_path / str(step)
        for name, number in published.items():
            add(repository, spec.model_copy(update={"name": name}), number)
        try:
            with monkeypatch.context() as patch:
                kill_at(step, patch)
                add(repository, spec, version)
        except Killed:
            seen = Repository.open(repository).taggers
            for name, number in published.items():
                assert seen[name][number].weights.read_text() == f"graph {number}"
            add(repository, spec, next_version(repository, "pets"))  # and the next export mends everything
            assert list(Repository.open(repository).taggers["pets"])[-1] == next_version(repository, "pets") - 1
        else:
            break
    assert 5 < step < 39


def test_a_killed_export_leaves_neither_a_lock_nor_its_scraps_for_long(spec: TaggerSpec, tmp_path: Path):
    code = """
import os, signal, sys
from pathlib import Path
from export.publish import staging
with staging(Path(sys.argv[1])) as stage:
    (stage / "model.onnx").write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, env=environment)
    assert killed.returncode == -signal.SIGKILL
    assert [name for name in files(tmp_path) if name.startswith(".staging-")]
    add(tmp_path, spec)
    assert files(tmp_path) == SHARED | layout(1)
