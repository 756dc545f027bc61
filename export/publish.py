"""Writing a version into a Triton model repository so that no reader ever sees half of it."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from export.triton_config import Backend, decode_config, ensemble_config, model_config
from labelwise.errors import RepositoryError
from labelwise.repository import CONFIG_FILE, DECODE_SUFFIX, MODEL_SUFFIX, WEIGHTS_FILE, version_folders
from labelwise.spec import LABELS_FILE, SPEC_FILE, TaggerSpec

# Triton reads configs/NAME.pbtxt instead of config.pbtxt where it is started with --model-config-name=NAME.
CUSTOM_CONFIGS = "configs"
_STAGING_PREFIX = ".staging-"


@contextlib.contextmanager
def staging(repository: Path) -> Iterator[Path]:
    """A scratch folder on the repository's own disk, while no other export writes there."""
    try:
        repository.mkdir(parents=True, exist_ok=True)
        folder = os.open(repository, os.O_RDONLY)
    except OSError as error:
        raise RepositoryError(f"{repository} cannot be written: {error.strerror}.") from error
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)  # ends with the process, so a killed export leaves no lock behind
        for stale in repository.glob(f"{_STAGING_PREFIX}*"):
            shutil.rmtree(stale)
        try:
            stage = Path(tempfile.mkdtemp(prefix=_STAGING_PREFIX, dir=repository))
        except OSError as error:
            raise RepositoryError(f"{repository} cannot be written: {error.strerror}.") from error
        try:
            yield stage
        finally:
            shutil.rmtree(stage, ignore_errors=True)
    finally:
        os.close(folder)


def next_version(repository: Path, name: str) -> int:
    """One more than any version that is or was being published."""
    parts = (name, name + MODEL_SUFFIX, name + DECODE_SUFFIX)
    return 1 + max((number for part in parts for number in version_folders(repository / part)), default=0)


def check_compatible(repository: Path, spec: TaggerSpec) -> None:
    """All versions share one config.pbtxt, so they must share what is in it. RepositoryError if they do not."""
    published = repository / spec.name / SPEC_FILE
    if not published.is_file():
        return
    if spec.version in version_folders(repository / spec.name):
        raise RepositoryError(f"{spec.name!r} already has a version {spec.version}: choose another --version.")
    other = TaggerSpec.read(published)
    shared = ("labels", "image", "input", "outputs", "max_batch")
    if any(getattr(other, field) != getattr(spec, field) for field in shared):
        raise RepositoryError(
            f"{spec.name!r} is published with other labels or tensors, and versions must share them: change --name."
        )


def publish(repository: Path, stage: Path, weights: Path, spec: TaggerSpec, backend: Backend) -> None:
    """Complete the three model folders under `stage`, then move them into `repository`, the ensemble last."""
    version = str(spec.version)
    _write_model(stage / (spec.name + MODEL_SUFFIX), weights, spec, backend)
    _write_decode(stage / (spec.name + DECODE_SUFFIX), spec)
    _write_ensemble(stage / spec.name, spec)
    for part in (spec.name + MODEL_SUFFIX, spec.name + DECODE_SUFFIX, spec.name):
        _sync_tree(stage / part)
        _move_into_place(stage / part, repository / part, version)
    _sync(repository)


def _write_model(folder: Path, weights: Path, spec: TaggerSpec, backend: Backend) -> None:
    version = _make_version(folder, spec)
    weights.rename(version / WEIGHTS_FILE)
    (version / "model.py").write_text(_triton_model("ort_model.py"), "utf-8")
    (folder / CUSTOM_CONFIGS).mkdir()
    (folder / CUSTOM_CONFIGS / "python.pbtxt").write_text(model_config(spec, "python"), "utf-8")
    (folder / CONFIG_FILE).write_text(model_config(spec, backend), "utf-8")
    _write_contract(folder, spec)


def _write_decode(folder: Path, spec: TaggerSpec) -> None:
    version = _make_version(folder, spec)
    (version / "model.py").write_text(_triton_model("decode_model.py"), "utf-8")
    decoder = resources.files("labelwise").joinpath("image.py").read_text("utf-8")
    (version / "labelwise_image.py").write_text(decoder, "utf-8")
    (folder / CONFIG_FILE).write_text(decode_config(spec), "utf-8")


def _write_ensemble(folder: Path, spec: TaggerSpec) -> None:
    spec.write(_make_version(folder, spec))
    (folder / CONFIG_FILE).write_text(ensemble_config(spec), "utf-8")
    _write_contract(folder, spec)


def _make_version(folder: Path, spec: TaggerSpec) -> Path:
    version = folder / str(spec.version)
    version.mkdir(parents=True)
    return version


def _write_contract(folder: Path, spec: TaggerSpec) -> None:
    (folder / LABELS_FILE).write_text("".join(f"{label}\n" for label in spec.labels), "utf-8")
    spec.write(folder)


def _triton_model(name: str) -> str:
    return resources.files("export").joinpath("triton_models", name).read_text("utf-8")


def _move_into_place(staged: Path, target: Path, version: str) -> None:
    """A new model moves as a whole; of an existing one the version moves first, then the files that describe it."""
    if not target.exists():
        staged.rename(target)
        return
    if (target / version).exists():
        raise RepositoryError(f"{target.name} already has a version {version}: choose another --version.")
    (staged / version).rename(target / version)
    for file in (path for path in staged.rglob("*") if path.is_file()):
        destination = target / file.relative_to(staged)
        destination.parent.mkdir(exist_ok=True)
        file.replace(destination)
    _sync(target)


def _sync_tree(folder: Path) -> None:
    for path in (*folder.rglob("*"), folder):
        _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
