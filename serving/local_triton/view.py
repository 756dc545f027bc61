"""The repository as a Triton of our own sees it: the versions that it is to load, and no others.

    repository/NAME_model    what Triton loads; the same for each part of each tagger
    aside/NAME_model         the next state while it is built; after `exchange`, the state before

The versions are hard links where possible, so they stay although an export takes them out of the source. A state is
built aside and shown in one go; if Triton cannot load it, a second `exchange` takes it back. A Triton that is started
again loads what is shown.

Triton alone cannot do this (tried with 2.51). It unloads a version at the first load that finds its folder gone, and
requests that began with it fail. At a start, one broken version takes the others of its tagger with it. A configuration
sent with a load could choose the versions, but it keeps none whose folder is gone, a crash forgets it, and it is sent
for one model at a time: between two of them the ensemble answers no request.
"""

import os
import shutil
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from labelwise.errors import LabelwiseError, RepositoryError
from labelwise.repository import CONFIG_FILE, CONTRACT_PARAMETER, WEIGHTS_FILE, VersionKey, model_names, tagger_of
from labelwise.spec import LABELS_FILE, SPEC_FILE, TaggerSpec

CONFIG_NAME = "labelwise"  # for --model-config-name: the configurations written here; those of the source stay beside
_CONFIGS = "configs"  # the folder of configurations that are chosen by name


@dataclass(frozen=True)
class _State:
    """The `versions` of one tagger; `mark` differs once the files beside them have been replaced."""

    versions: frozenset[int]
    mark: tuple[object, ...]


class TritonView:
    """A view of the repository `source` under the empty `folder`. Its methods block, and raise OSError on a full disk.

    Where a model of `source` has a configuration `config_name`, that one counts.
    """

    def __init__(self, source: Path, folder: Path, config_name: str | None) -> None:
        self._source, self._config_name = source, config_name
        self.repository, self._aside = folder / "repository", folder / "aside"
        self.repository.mkdir()
        self._aside.mkdir()
        self._graphs: dict[VersionKey, str] = {}
        self._shown: dict[str, _State] = {}
        self._beside: dict[str, _State] = {}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._shown)

    def run(self, key: VersionKey, graph: str) -> None:
        """Show only the file `graph` of a version's graphs, as the one that every configuration runs."""
        self._graphs[key] = graph

    def versions(self, name: str) -> frozenset[int]:
        """Returns the versions that are shown to Triton."""
        return self._shown[name].versions if name in self._shown else frozenset()

    def wanted(self, name: str, whole: AbstractSet[int]) -> frozenset[int]:
        """Returns those of the `whole` versions that the operator's version policy selects, or the newest if none."""
        if not whole:
            return frozenset()
        policy = self._config(self._base(name, whole) / model_names(name).model).version_policy
        if policy.HasField("specific"):
            return frozenset(whole).intersection(policy.specific.versions) or frozenset({max(whole)})
        newest = len(whole) if policy.HasField("all") else max(1, policy.latest.num_versions)
        return frozenset(sorted(whole)[-newest:])

    def require_programs(self, name: str, number: int) -> None:
        """Raises RepositoryError if a program of the version is missing: Triton's Python backend hangs without it."""
        for part in model_names(name):
            program = f"{part}/{number}/model.py"
            if self._config(self._source / part).backend == "python" and not (self._source / program).is_file():
                raise RepositoryError(f"{program} is missing")

    def is_outdated(self, name: str, whole: AbstractSet[int]) -> bool:
        """Whether the files beside the versions have been replaced: they follow a new version, a moment later."""
        return self._base(name, whole) == self._source and self._shown[name].mark != _mark(self._source, name)

    def build(self, name: str, versions: frozenset[int], whole: AbstractSet[int], fresh: AbstractSet[int]) -> None:
        """Build the next state aside. The `fresh` versions come from the source although they are shown already."""
        self.discard(name)
        base = self._base(name, whole)
        mark = _mark(base, name)
        for part in model_names(name):
            folder = self._aside / part
            folder.mkdir()
            for file in _shared_files(base / part):
                copy = folder / file.relative_to(base / part)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copy)  # no link: unlike the versions, these may be overwritten in place
            for number in versions:
                older = self.repository if number in self.versions(name) - fresh else self._source
                if (older / part / str(number)).is_dir():
                    shutil.copytree(older / part / str(number), folder / str(number), copy_function=_link)
                if older == self._source and part == model_names(name).model:
                    self._show_graph(folder / str(number), self._graphs.get((name, number)))
            self._write_config(folder, versions)
        self._beside[name] = _State(versions, mark)

    @staticmethod
    def _show_graph(version: Path, graph: str | None) -> None:
        if graph is None:
            return
        (version / graph).rename(version / WEIGHTS_FILE)
        for other in version.glob("model.*.onnx"):
            other.unlink()

    def exchange(self, name: str) -> None:
        """Show what lies aside, which may be nothing, and put aside what was shown."""
        for part in model_names(name):
            shown, aside, spare = self.repository / part, self._aside / part, self._aside / f"{part}.spare"
            for old, new in ((shown, spare), (aside, shown), (spare, aside)):
                if old.exists():
                    old.rename(new)
        before, after = self._shown.pop(name, None), self._beside.pop(name, None)
        if before:
            self._beside[name] = before
        if after:
            self._shown[name] = after

    def discard(self, name: str) -> None:
        """Remove what lies aside."""
        self._beside.pop(name, None)
        for part in model_names(name):
            shutil.rmtree(self._aside / part, ignore_errors=True)

    def _base(self, name: str, whole: AbstractSet[int]) -> Path:
        """Where the files beside the versions come from: the source, unless they describe a broken version."""
        if name in self._shown:
            try:
                described = TaggerSpec.read(self._source / name / SPEC_FILE).version
                for part in model_names(name):
                    self._config(self._source / part)
            except LabelwiseError:
                return self.repository
            if described not in whole:
                return self.repository
        return self._source

    def _config(self, model: Path) -> Any:
        """Returns the operator's configuration of a model. Raises RepositoryError if it cannot be read."""
        file = model / _CONFIGS / f"{self._config_name}.pbtxt"
        if not file.is_file():
            file = model / CONFIG_FILE
        try:
            return text_format.Parse(file.read_text("utf-8"), model_config_pb2.ModelConfig())
        except OSError as error:
            raise RepositoryError(f"{model.name}/{file.name} cannot be read: {error.strerror}.") from error
        except (ValueError, text_format.ParseError) as error:
            raise RepositoryError(f"{model.name}/{file.name} is not a Triton configuration: {error}") from error

    def _write_config(self, folder: Path, versions: frozenset[int]) -> None:
        """Write the configuration that loads `versions`. One for none of them becomes that of the newest."""
        config = self._config(folder)
        if not config.version_policy.HasField("specific"):
            config.version_policy.all.SetInParent()
        elif versions.isdisjoint(config.version_policy.specific.versions):
            spec = TaggerSpec.read(self._source / tagger_of(folder.name) / str(max(versions)))
            _pin(config, spec)
            (folder / LABELS_FILE).write_text("".join(f"{label}\n" for label in spec.labels), "utf-8")
        (folder / _CONFIGS).mkdir(exist_ok=True)
        (folder / _CONFIGS / f"{CONFIG_NAME}.pbtxt").write_text(text_format.MessageToString(config), "utf-8")


def _shared_files(model: Path) -> list[Path]:
    """The files beside the versions."""
    beside = [child for child in model.glob("*") if not child.name.isdecimal()]
    return [file for child in beside for file in (child, *child.rglob("*")) if file.is_file()]


def _mark(base: Path, name: str) -> tuple[object, ...]:
    files = sorted(file for part in model_names(name) for file in _shared_files(base / part))
    return tuple((file.relative_to(base), file.stat().st_mtime_ns, file.stat().st_size) for file in files)


def _pin(config: Any, spec: TaggerSpec) -> None:
    """Make a configuration that of version `spec`, as an export of it would have written it."""
    config.version_policy.specific.versions[:] = [spec.version]
    shapes = {output.name: output.shape for output in spec.outputs}
    for output in config.output:
        output.dims[:] = shapes.get(output.name, output.dims)
    for step in config.ensemble_scheduling.step:
        step.model_version = spec.version
    if CONTRACT_PARAMETER in config.parameters:
        config.parameters[CONTRACT_PARAMETER].string_value = spec.model_dump_json()


def _link(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, a disk without links, another owner's file
        shutil.copyfile(source, target)
