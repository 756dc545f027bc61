"""Writes a version into a Triton model repository; no reader ever sees half of it.

Renames move a version in, the ensemble's folder last: from then on the version exists. The files that all versions
share follow. Then old versions are taken out, the ensemble's folder first: from then on they do not exist.
"""

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from export.preflight import require_no_strangers, require_whole
from export.tensorrt import Plan
from export.triton_config import (
    ONE_VERSION,
    Backend,
    ServingOptions,
    decode_config,
    ensemble_config,
    model_config,
    model_variants,
)
from labelwise.errors import RepositoryError, SpecError
from labelwise.files import locked_folder, sync
from labelwise.repository import CONFIG_FILE, WEIGHTS_FILE, model_names, version_folders
from labelwise.spec import LABELS_FILE, LAST_VERSION, SPEC_FILE, TaggerSpec, TrainedSpec

# Started with --model-config-name=NAME, Triton reads configs/NAME.pbtxt instead of config.pbtxt.
CUSTOM_CONFIGS = "configs"
_DECODER = "labelwise_image"  # a copy of the package labelwise.image
_PRECISION = "labelwise_precision"  # a copy of the module labelwise.precision
_STAGING = ".labelwise-staging-"
_UNWRITABLE = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG),  # the disk is full
    *(errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO),  # it refuses
    *(errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG),  # the path cannot be a folder
}


@contextlib.contextmanager
def staging(repository: Path) -> Iterator[Path]:
    """A scratch folder on the repository's disk, while no other export writes there.

    Raises RepositoryError if the repository cannot be written. A failed export leaves nothing behind.
    """
    missing = [folder for folder in (repository, *repository.parents) if not folder.exists()]
    try:
        with _locked(repository):
            try:
                for stale in repository.glob(f"{_STAGING}*"):  # left by a killed export
                    shutil.rmtree(stale)
                scratch = tempfile.TemporaryDirectory(prefix=_STAGING, dir=repository, ignore_cleanup_errors=True)
                with scratch as stage:
                    yield Path(stage)
            except BaseException:
                for folder in missing:
                    with contextlib.suppress(OSError):  # not empty: others use it by now
                        folder.rmdir()
                raise
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        raise RepositoryError(f"Not published: {repository} cannot be written: {error.strerror}.") from error


@contextlib.contextmanager
def _locked(repository: Path) -> Iterator[None]:
    while True:
        repository.mkdir(parents=True, exist_ok=True)
        with locked_folder(repository) as descriptor:
            # The export that held the lock before may have failed and removed the folder that it had made.
            if _is_at(descriptor, repository):
                yield
                return


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def next_version(repository: Path, name: str) -> int:
    """One more than the highest version, also of unfinished ones. Raises RepositoryError if there is none higher."""
    newest = max((number for part in model_names(name) for number in version_folders(repository / part)), default=0)
    if newest >= LAST_VERSION:
        raise RepositoryError(f"{name!r} has the highest possible version, {newest}: choose a --version.")
    return newest + 1


def check_compatible(repository: Path, name: str, version: int, spec: TrainedSpec) -> None:
    """Raises RepositoryError if the versions would differ in what they share, which one config.pbtxt says for all."""
    published = repository / name / SPEC_FILE
    if not published.is_file():
        return
    if version in version_folders(repository / name):
        raise RepositoryError(f"{name!r} already has a version {version}: choose another --version.")
    other = TaggerSpec.read(published)
    shared = ("labels", "image", "input", "outputs", "max_batch")
    if any(getattr(other, field) != getattr(spec, field) for field in shared):
        raise RepositoryError(
            f"{name!r} is published with other labels or tensors, and versions must share them: change --name."
        )


def publish(
    repository: Path,
    stage: Path,
    spec: TaggerSpec,
    backend: Backend,
    options: ServingOptions | None = None,
    plans: Sequence[Plan] = (),
    keep: int | None = None,
) -> None:
    """Completes the three model folders under `stage`, then moves them into `repository`, the ensemble last.

    The graphs, under the names that `spec` gives them, and `plans` lie in `stage`. Then removes all but the `keep`
    newest versions; None keeps all. Raises RepositoryError, and changes no version, if Triton could not load the
    result. The caller has checked that the graphs load and run.
    """
    if keep is not None and keep < 1:
        raise RepositoryError(f"{keep} versions cannot be kept: the new one stays in any case.")
    options = options or ServingOptions()
    decode, model, ensemble = model_names(spec.name)
    _write_decode(stage / decode, spec, options)
    alone = _has_other_labels(repository, spec)
    _write_model(stage / model, spec, backend, options, plans, alone)
    _write_ensemble(stage / ensemble, spec)
    require_whole(stage, spec)
    for part in (decode, model, ensemble):
        for path in (*(stage / part).rglob("*"), stage / part):
            sync(path)
    newest = spec.version >= max(version_folders(repository / ensemble), default=0)
    _take_out_scraps(repository, stage, spec.name)
    require_no_strangers(repository, spec.name)
    _move_versions(repository, stage, spec)
    if newest:  # the shared files describe the newest version
        for part in (decode, model, ensemble):
            _move_shared(stage / part, repository / part)
        for name in ONE_VERSION.difference(model_variants(spec, options, plans)):
            _variant(repository / model, name).unlink(missing_ok=True)  # Triton reads config.pbtxt instead
    if keep is not None:
        _take_out_old(repository, stage, spec, keep)


def _has_other_labels(repository: Path, spec: TaggerSpec) -> bool:
    """Whether another version has other labels, as after `labelwise teach`: Triton's one configuration fits one."""
    for folder in version_folders(repository / spec.name).values():
        with contextlib.suppress(SpecError):  # a broken version is not loaded
            other = TaggerSpec.read(folder)
            if (other.labels, other.outputs) != (spec.labels, spec.outputs):
                return True
    return False


def _write_model(
    folder: Path, spec: TaggerSpec, backend: Backend, options: ServingOptions, plans: Sequence[Plan], alone: bool
) -> None:
    version = _make_version(folder, spec)
    for name in [graph.file for graph in spec.graphs] or [WEIGHTS_FILE]:
        (folder.parent / name).rename(version / name)
    for plan in plans:
        plan.file.rename(version / plan.file.name)
    (version / "model.py").write_text(_triton_model("ort_model.py"), "utf-8")
    (version / f"{_PRECISION}.py").write_text(_labelwise("precision.py").read_text("utf-8"), "utf-8")
    spec.write(version)
    (folder / CONFIG_FILE).write_text(model_config(spec, backend, options, plans, alone=alone), "utf-8")
    (folder / CUSTOM_CONFIGS).mkdir()
    for name, text in model_variants(spec, options, plans, alone).items():
        _variant(folder, name).write_text(text, "utf-8")
    _write_contract(folder, spec)


def _write_decode(folder: Path, spec: TaggerSpec, options: ServingOptions) -> None:
    version = _make_version(folder, spec)
    (version / "model.py").write_text(_triton_model("decode_model.py"), "utf-8")
    (version / _DECODER).mkdir()
    for module in _labelwise("image").iterdir():
        if module.name.endswith(".py"):
            (version / _DECODER / module.name).write_text(module.read_text("utf-8"), "utf-8")
    (folder / CONFIG_FILE).write_text(decode_config(spec, options), "utf-8")


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


def _labelwise(name: str) -> Traversable:
    return resources.files("labelwise").joinpath(name)


def _variant(model: Path, name: str) -> Path:
    return model / CUSTOM_CONFIGS / f"{name}.pbtxt"


def _move_versions(repository: Path, stage: Path, spec: TaggerSpec) -> None:
    """Moves in a new model as a whole, or the version of an existing model; moves back what failed half-way."""
    version = str(spec.version)
    moved: list[tuple[Path, Path]] = []
    try:
        for part in model_names(spec.name):
            inner = version if (repository / part).exists() else ""
            staged, target = stage / part / inner, repository / part / inner
            if inner and target.exists():
                raise RepositoryError(f"{part} already has a version {version}: choose another --version.")
            staged.rename(target)
            moved.append((staged, target))
            sync(target.parent)
    except Exception:
        for staged, target in reversed(moved):
            target.rename(staged)
        raise


def _move_shared(staged: Path, target: Path) -> None:
    """Replaces the files beside the versions, each atomically. There are none left if the model moved as a whole."""
    for file in (path for path in staged.rglob("*") if path.is_file()):
        destination = target / file.relative_to(staged)
        destination.parent.mkdir(exist_ok=True)
        file.replace(destination)
        sync(destination.parent)


def _take_out_scraps(repository: Path, stage: Path, name: str) -> None:
    """Takes out versions without an ensemble's folder, which a killed export or removal left."""
    existing = version_folders(repository / name)
    for part in model_names(name):
        for number, folder in version_folders(repository / part).items():
            if number not in existing and _is_ours(folder):
                _take_out(folder, stage)


def _is_ours(version: Path) -> bool:
    # Up to 0.1.0 the decoder was one file.
    return (version / "model.py").is_file() and any(
        (version / name).exists() for name in (WEIGHTS_FILE, _DECODER, f"{_DECODER}.py")
    )


def _take_out_old(repository: Path, stage: Path, spec: TaggerSpec, keep: int) -> None:
    """Removes all but the `keep` highest versions, oldest first, but not the one just published.

    After lessons it also keeps the newest version from before them, because no lesson can make it again.
    """
    versions = version_folders(repository / spec.name)
    kept = {spec.version, *list(versions)[-keep:]}
    if spec.taught:
        kept.update([number for number, folder in versions.items() if _is_untaught(folder)][-1:])
    for number in versions:
        if number not in kept:
            for part in reversed(model_names(spec.name)):
                folder = repository / part / str(number)
                if folder.is_dir():
                    _take_out(folder, stage)


def _is_untaught(folder: Path) -> bool:
    with contextlib.suppress(SpecError):  # a broken version is not worth keeping
        return not TaggerSpec.read(folder).taught
    return False


def _take_out(folder: Path, stage: Path) -> None:
    """Removes a folder atomically for readers; its files go with the stage."""
    folder.rename(stage / f"out-{folder.parent.name}-{folder.name}")
    sync(folder.parent)
