"""The repository as a Triton of our own sees it: exactly the versions it shall load, of which no export takes one away.

    repository/NAME_model -> ../generations/000007/NAME_model      and so for each part of each tagger

A generation is one state of one tagger: its versions as hard links where possible, and its configurations, which load
all that is in it. The next one is built aside, shown in one go, and taken back where Triton cannot load it; a Triton
that is started again finds what was shown last.
"""

import contextlib
import itertools
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from labelwise.errors import LabelwiseError
from labelwise.repository import CONFIG_FILE, CONTRACT_PARAMETER, model_names
from labelwise.spec import SPEC_FILE, TaggerSpec

_CONFIGS = "configs"  # of `tritonserver --model-config-name`
_Mark = tuple[object, ...]


@dataclass(frozen=True)
class Generation:
    """One state of one tagger; `mark` tells whether the files beside its versions were replaced since."""

    folder: Path
    versions: frozenset[int]
    mark: _Mark


class TritonView:
    """Of the repository `source`, under the empty `folder`; its methods block, and raise OSError where disks are full.

    `config_name` is that of Triton's --model-config-name, if it has one.
    """

    def __init__(self, source: Path, folder: Path, config_name: str | None) -> None:
        self._source, self._config_name = source, config_name
        self.repository = folder / "repository"
        self._generations = folder / "generations"
        self.repository.mkdir()
        self._generations.mkdir()
        self._numbers = itertools.count(1)
        self._shown: dict[str, Generation] = {}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._shown)

    def versions(self, name: str) -> frozenset[int]:
        """Those that Triton has, or had to load."""
        return self._shown[name].versions if name in self._shown else frozenset()

    def wanted(self, name: str, whole: set[int]) -> frozenset[int]:
        """Those of the `whole` versions that the operator's version policy has loaded."""
        config = _read(self._config(self._base(name, whole) / model_names(name).model))
        policy = config.version_policy if config else model_config_pb2.ModelVersionPolicy()
        if policy.HasField("specific"):
            return frozenset(whole.intersection(policy.specific.versions))
        newest = len(whole) if policy.HasField("all") else max(1, policy.latest.num_versions)
        return frozenset(sorted(whole)[-newest:])

    def missing_program(self, name: str, number: int) -> str | None:
        """A version's program that is not there: Triton's Python backend hangs where it looks for one."""
        names = model_names(name)
        for part in (names.decode, names.model):
            config = _read(self._config(self._source / part))
            program = f"{part}/{number}/model.py"
            if config and config.backend == "python" and not (self._source / program).is_file():
                return f"{program} is missing"
        return None

    def is_outdated(self, name: str, whole: set[int]) -> bool:
        """Whether the files beside the versions have been replaced: they follow a new version, a moment later."""
        return self._base(name, whole) == self._source and self._shown[name].mark != _mark(self._source, name)

    def build(self, name: str, versions: frozenset[int], whole: set[int], anew: set[int]) -> Generation:
        """The next generation, not shown yet; `anew` are versions to take from the source though they are here."""
        base = self._base(name, whole)
        folder = self._generations / f"{next(self._numbers):06}"
        generation = Generation(folder, versions, _mark(base, name))
        for part in model_names(name):
            (folder / part).mkdir(parents=True)
            self._copy_shared(base / part, folder / part, versions)
            for number in versions:
                older = self._shown[name].folder if number in self.versions(name) - anew else self._source
                if (older / part / str(number)).is_dir():
                    shutil.copytree(older / part / str(number), folder / part / str(number), copy_function=_link)
        return generation

    def show(self, name: str, generation: Generation | None) -> Generation | None:
        """From now on Triton loads this one, or nothing under that name. Returns what it loaded before."""
        before = self._shown.pop(name, None)
        for part in model_names(name):
            link = self.repository / part
            if generation is None:
                link.unlink(missing_ok=True)
            else:
                aside = self._generations / f"{part}.link"
                aside.symlink_to(generation.folder / part)
                aside.replace(link)
        if generation is not None:
            self._shown[name] = generation
        return before

    def discard(self, generation: Generation | None) -> None:
        """Away with one that is not shown."""
        if generation is not None:
            shutil.rmtree(generation.folder, ignore_errors=True)

    def _base(self, name: str, whole: set[int]) -> Path:
        """Where the files beside the versions are taken from: the source, unless they describe a broken version."""
        shown = self._shown.get(name)
        if shown is None:
            return self._source
        with contextlib.suppress(LabelwiseError):
            if TaggerSpec.read(self._source / name / SPEC_FILE).version in whole:
                return self._source
        return shown.folder

    def _config(self, part: Path) -> Path:
        custom = part / _CONFIGS / f"{self._config_name}.pbtxt"
        return custom if custom.is_file() else part / CONFIG_FILE

    def _copy_shared(self, source: Path, target: Path, versions: frozenset[int]) -> None:
        """The files beside the versions; of the configurations, those that would load the newest load all there is.

        An ensemble that is for a version that is left out is made one for the newest of `versions`.
        """
        for file in _shared_files(source):
            copy = target / file.relative_to(source)
            copy.parent.mkdir(exist_ok=True)
            config = _read(file) if file.suffix == ".pbtxt" else None
            if config is not None and config.platform == "ensemble" and versions.isdisjoint(_pinned(config)):
                _pin(config, TaggerSpec.read(source / str(max(versions))))
                copy.write_text(text_format.MessageToString(config), "utf-8")
            elif config is None or config.platform == "ensemble" or config.version_policy.HasField("specific"):
                shutil.copyfile(file, copy)  # no link: unlike the versions, these may be overwritten in place
            else:
                config.version_policy.all.SetInParent()
                copy.write_text(text_format.MessageToString(config), "utf-8")


def _shared_files(part: Path) -> list[Path]:
    return [
        file for folder in (part, part / _CONFIGS) if folder.is_dir() for file in folder.iterdir() if file.is_file()
    ]


def _mark(base: Path, name: str) -> _Mark:
    files = sorted(file for part in model_names(name) for file in _shared_files(base / part))
    return tuple((file.relative_to(base), file.stat().st_mtime_ns, file.stat().st_size) for file in files)


def _pinned(config: Any) -> set[int]:
    return set(config.version_policy.specific.versions)


def _pin(config: Any, spec: TaggerSpec) -> None:
    """Make the ensemble's configuration that of version `spec`, as an export of it would have written it."""
    config.version_policy.specific.versions[:] = [spec.version]
    for step in config.ensemble_scheduling.step:
        step.model_version = spec.version
    if CONTRACT_PARAMETER in config.parameters:
        config.parameters[CONTRACT_PARAMETER].string_value = spec.model_dump_json()


def _read(config: Path) -> Any:
    """Triton's own message; None for what cannot be read, of which Triton says more than we could."""
    try:
        return text_format.Parse(config.read_text("utf-8"), model_config_pb2.ModelConfig())
    except (OSError, ValueError, text_format.ParseError):
        return None


def _link(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, a disk without links, another owner's file
        shutil.copyfile(source, target)
