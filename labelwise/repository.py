"""The Triton model repository on disk: its layout, and reading it without Triton.

    scenes/          ensemble, encoded bytes -> outputs   config.pbtxt labels.txt tagger.json 1/tagger.json
    scenes_decode/   bytes -> uint8 pixels                config.pbtxt 1/model.py 1/labelwise_image/
    scenes_model/    uint8 pixels -> outputs              config.pbtxt labels.txt tagger.json 1/model.onnx
                     1/model.int8.onnx and so on: the same tagger in other number formats
                     configs/NAME.pbtxt for `tritonserver --model-config-name=NAME`; 1/model.*.plan if built

A version exists while the ensemble's numbered folder exists: export moves that folder in last and removes it first. The
tagger.json in the numbered folder belongs to that version; the one above it is a copy of the newest version's.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from labelwise.errors import LabelwiseError, RepositoryError, SpecError
from labelwise.files import sha256_of
from labelwise.spec import SPEC_FILE, GraphSpec, TaggerSpec

WEIGHTS_FILE = "model.onnx"
CONFIG_FILE = "config.pbtxt"
DEFAULT_TAGGER = "everyday"  # the bundled tagger for ordinary photos
CONTRACT_PARAMETER = "tagger"  # in the ensemble's config.pbtxt: holds tagger.json, for clients that see only Triton

_VERSION = re.compile("[1-9][0-9]{0,14}")  # up to LAST_VERSION, as Triton writes numbers

# How often a model without versions is listed: a listing may miss both the version that moves in and the one that
# moves out.
_LISTINGS = 5

VersionKey = tuple[str, int]  # a tagger's name and a version of it
VersionMark = tuple[object, ...]  # changes when a version is published again or becomes whole


class ModelNames(NamedTuple):
    """The names of a tagger's three Triton models, in the order in which a version of them is published."""

    decode: str
    model: str
    ensemble: str


def model_names(tagger: str) -> ModelNames:
    return ModelNames(f"{tagger}_decode", f"{tagger}_model", tagger)


def tagger_of(model: str) -> str:
    """The tagger that the Triton model `model` belongs to."""
    return re.sub(r"_(decode|model)\Z", "", model)


def default_tagger(names: Collection[str], chosen: str | None = None) -> str | None:
    """The one of `names` for requests and commands that name no tagger.

    It is the `chosen` one of a setting or an option. Without a choice it is the only one, or DEFAULT_TAGGER. None if
    that one is not among `names`.
    """
    if chosen is None and len(names) == 1:
        return next(iter(names))
    wanted = chosen or DEFAULT_TAGGER
    return wanted if wanted in names else None


@dataclass(frozen=True)
class TaggerVersion:
    """One servable version: its contract, and the graph with the contract's `weights_sha256`."""

    spec: TaggerSpec
    weights: Path

    @property
    def key(self) -> VersionKey:
        return self.spec.name, self.spec.version

    def with_graph(self, graph: GraphSpec) -> "TaggerVersion":
        """Returns this version as it is served by `graph`, one of its contract's."""
        return TaggerVersion(self.spec.with_graph(graph), self.weights.with_name(graph.file))


@dataclass(frozen=True)
class Repository:
    """The taggers of a repository: name -> version number -> version, newest last.

    `broken` says what is wrong with each version that was left out.
    """

    path: Path
    taggers: dict[str, dict[int, TaggerVersion]]
    broken: Mapping[VersionKey, str] = field(default_factory=dict)

    @property
    def keys(self) -> set[VersionKey]:
        return {version.key for versions in self.taggers.values() for version in versions.values()}

    @classmethod
    def open(cls, path: Path, *, skip_broken: bool = False, only: str | None = None) -> "Repository":
        """Read and verify every tagger under `path`, or `only` the one of that name.

        Raises RepositoryError or SpecError for what is missing or wrong. With `skip_broken` it leaves broken versions
        out, and raises only if no version is whole.
        """
        try:
            taggers, broken = _read_taggers(path, only)
            if broken and not skip_broken:
                raise next(iter(broken.values()))
        except OSError as error:
            raise _unreadable(error) from error
        return cls(path, taggers, {key: str(fault) for key, fault in broken.items()})


def version_folders(model: Path) -> dict[int, Path]:
    """The numbered folders of a model, ascending. A folder such as 01 is not a version."""
    if not model.is_dir():
        return {}
    for _ in range(_LISTINGS):
        numbered = [child for child in model.iterdir() if _VERSION.fullmatch(child.name) and child.is_dir()]
        if numbered:
            return dict(sorted((int(child.name), child) for child in numbered))
    return {}


def published_names(repository: Path) -> list[str]:
    """The taggers that have a version, whole or not. Raises RepositoryError if a folder cannot be read."""
    try:
        return [name for name in tagger_names(repository) if version_folders(repository / name)]
    except OSError as error:
        raise _unreadable(error) from error


def tagger_names(repository: Path) -> list[str]:
    """The taggers that have a tagger.json beside the ensemble or the inner model, even if the ensemble is lost."""
    return sorted({tagger_of(file.parent.name) for file in repository.glob(f"[!.]*/{SPEC_FILE}")})


def weights_file(repository: Path, tagger: str, version: int) -> Path:
    return repository / model_names(tagger).model / str(version) / WEIGHTS_FILE


def version_marks(path: Path) -> dict[VersionKey, VersionMark]:
    """The versions under `path`, without reading them. Raises OSError if the folder cannot be read."""
    next(path.iterdir(), None)  # raises for a missing folder, in which `glob` just finds nothing
    return {
        (name, number): _mark(path, name, number)
        for name in tagger_names(path)
        for number in version_folders(path / name)
    }


def read_version(path: Path, name: str, number: int) -> TaggerVersion | None:
    """One version, verified; None if an export removes it in the meantime.

    Raises RepositoryError, SpecError or OSError if it is broken.
    """
    try:
        return _read_version(path, name, number)
    except (OSError, LabelwiseError):
        if (path / name / str(number)).is_dir():  # an export removes this folder first
            raise
        return None


def _mark(path: Path, name: str, number: int) -> VersionMark:
    names = model_names(name)
    weights = weights_file(path, name, number)
    files = (path / name / str(number) / SPEC_FILE, weights, *sorted(weights.parent.glob("model.*.onnx")))
    states = [file.stat() if file.is_file() else None for file in files]
    whole = (path / names.decode / str(number)).is_dir()
    whole = whole and all((path / part / CONFIG_FILE).is_file() for part in names)
    return whole, *((state.st_mtime_ns, state.st_size) if state else None for state in states)


def _read_taggers(
    path: Path, only: str | None
) -> tuple[dict[str, dict[int, TaggerVersion]], dict[VersionKey, Exception]]:
    """The whole versions, and what is wrong with the others. Raises an error if no version is whole."""
    if not path.is_dir():
        raise RepositoryError(f"There is no model repository at {path}; export a model there with `labelwise export`.")
    found = [name for name in tagger_names(path) if only in (None, name)]
    if not found:
        raise RepositoryError(f"{path} holds no tagger; export one with `labelwise export RUN --to {path}`.")
    taggers: dict[str, dict[int, TaggerVersion]] = {}
    broken: dict[VersionKey, Exception] = {}
    for name in found:
        # A tagger without an ensemble version is being published, or a killed export left it. It does no harm.
        whole, faults = _read_tagger(path, name)
        broken |= {(name, number): fault for number, fault in faults.items()}
        if whole:
            taggers[name] = whole
    if not taggers:
        missing = f"{found[0]}/ has no version folder such as {found[0]}/1"
        raise next(iter(broken.values()), RepositoryError(_incomplete(found[0], missing)))
    return taggers, broken


def _read_tagger(repository: Path, name: str) -> tuple[dict[int, TaggerVersion], dict[int, Exception]]:
    whole: dict[int, TaggerVersion] = {}
    broken: dict[int, Exception] = {}
    while not whole and not broken and (numbers := version_folders(repository / name)):
        try:
            _check_shared(repository, name)
        except LabelwiseError as error:
            return {}, dict.fromkeys(numbers, error)
        for number in numbers:
            try:
                if version := read_version(repository, name, number):
                    whole[number] = version
            except (OSError, LabelwiseError) as error:
                broken[number] = error
    return whole, broken


def _check_shared(repository: Path, name: str) -> None:
    """Raises RepositoryError or SpecError for the files that all versions share."""
    names = model_names(name)
    for part in names:
        if not (repository / part / CONFIG_FILE).is_file():
            raise RepositoryError(_incomplete(name, f"{part}/{CONFIG_FILE} is missing"))
    for copy in (names.ensemble, names.model):
        TaggerSpec.read(repository / copy / SPEC_FILE)


def _read_version(repository: Path, name: str, number: int) -> TaggerVersion:
    spec = TaggerSpec.read(repository / name / str(number) / SPEC_FILE)
    if spec.name != name or spec.version != number:
        raise SpecError(
            f"{name}/{number}/{SPEC_FILE} is not a valid tagger: name, version: "
            f"it says {spec.name!r} version {spec.version} but lies in the folder of {name!r} version {number}"
        )
    decode = f"{model_names(name).decode}/{number}"
    if not (repository / decode).is_dir():
        raise RepositoryError(_incomplete(name, f"{decode} is missing"))
    weights = weights_file(repository, name, number)
    hashes = {graph.file: graph.sha256 for graph in spec.graphs} or {WEIGHTS_FILE: spec.weights_sha256}
    for file, sha256 in hashes.items():
        graph = weights.with_name(file)
        if not graph.is_file():
            raise RepositoryError(_incomplete(name, f"{graph.relative_to(repository)} is missing"))
        if sha256_of(graph) != sha256:
            raise RepositoryError(_incomplete(name, f"{file} of version {number} is not the file that was exported"))
    return TaggerVersion(spec, weights)


def _unreadable(error: OSError) -> RepositoryError:
    return RepositoryError(f"{error.filename} cannot be read: {error.strerror}.")


def _incomplete(name: str, what: str) -> str:
    return f"The tagger {name!r} is incomplete: {what}. Export it again with `labelwise export`."
