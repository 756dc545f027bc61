"""Checks a tagger's files: its contract, the copies of it, and the hashes."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from export.check.findings import Finding, verdict
from labelwise.errors import SpecError
from labelwise.files import sha256_of
from labelwise.label_names import case_fault
from labelwise.repository import model_names, version_folders, weights_file
from labelwise.spec import SPEC_FILE, TaggerSpec

# What each program must define. Up to 0.1.0 the decoder was one file, labelwise_image.py.
_NEEDED = {
    "model.py": "TritonPythonModel",
    "labelwise_precision.py": "candidates",
    "__init__.py": "load_pixels",
    "labelwise_image.py": "load_pixels",
}


@dataclass(frozen=True)
class Version:
    """A version whose contract can be read; `weights` is where its graph should lie.

    `name` and `number` are those of its folder, which a broken contract may contradict. `precision` is that of the
    graph if it is one of several.
    """

    name: str
    number: int
    spec: TaggerSpec
    weights: Path
    precision: str = ""

    @property
    def subject(self) -> str:
        return f"{self.name} version {self.number} {self.precision}".rstrip()

    @property
    def each_graph(self) -> list["Version"]:
        """Returns this version once for each of its graphs."""
        several = len(self.spec.graphs) > 1
        return [
            replace(
                self,
                spec=self.spec.with_graph(graph),
                weights=self.weights.with_name(graph.file),
                precision=graph.precision if several else "",
            )
            for graph in self.spec.graphs
        ] or [self]


def read_versions(repository: Path, name: str) -> tuple[list[Version], list[Finding]]:
    """The readable versions of a tagger, newest last, and the findings about their contracts."""
    versions, findings = [], []
    numbers = version_folders(repository / name)
    if not numbers:
        findings.append(verdict(name, "versions", "", [f"{name}/ has no version folder such as {name}/1"]))
    for number, folder in numbers.items():
        subject = f"{name} version {number}"
        try:
            spec = TaggerSpec.read(folder)
        except SpecError as error:
            findings.append(verdict(subject, "contract", "", [str(error)]))
            continue
        agrees = (spec.name, spec.version) == (name, number)
        faults = [] if agrees else [f"name, version: it says {spec.name!r} version {spec.version}"]
        findings.append(verdict(subject, "contract", f"{SPEC_FILE} is valid", faults))
        if fault := case_fault(spec.labels):
            findings.append(Finding(subject, "labels", fault, "note"))
        versions.append(Version(name, number, spec, weights_file(repository, name, number)))
    return versions, findings


def check_files(repository: Path, version: Version) -> Iterator[Finding]:
    """Checks that the graphs are the exported ones, and that the decoder is complete."""
    decoder = repository / model_names(version.name).decode / str(version.number)
    beside = version.weights.parent
    programs = [decoder / "model.py", *_decoder_modules(decoder), *beside.glob("model.py")]
    if (beside / SPEC_FILE).is_file():  # which labelwise 0.2 did not write
        programs.append(beside / "labelwise_precision.py")
    graphs = version.each_graph
    files = (*programs, *(graph.weights for graph in graphs))
    faults = [f"{file.relative_to(repository)} is missing" for file in files if not file.is_file()]
    faults += [f"{file.relative_to(repository)} {fault}" for file in programs if (fault := _fault_of_program(file))]
    yield verdict(version.subject, "files", "graph and decoder are there", faults)
    for graph in graphs:
        if graph.weights.is_file():
            digest, wanted = sha256_of(graph.weights), graph.spec.weights_sha256
            wrong = [] if digest == wanted else [f"it is {digest}, the contract says {wanted}"]
            yield verdict(graph.subject, "SHA-256", digest[:12] + "…", wrong)


def _decoder_modules(version: Path) -> list[Path]:
    """The decoder's files beside Triton's decode model; at least one, which may be missing."""
    if (version / "labelwise_image.py").is_file():
        return [version / "labelwise_image.py"]
    package = version / "labelwise_image"
    return sorted({package / "__init__.py", *package.glob("*.py")})


def _fault_of_program(file: Path) -> str:
    """Why Triton's Python backend could not start it; empty if it could."""
    try:
        names = _names_in(file.read_bytes())
    except FileNotFoundError:
        return ""
    except (SyntaxError, ValueError, OSError) as error:
        return f"is not Python: {error}"
    wanted = _NEEDED.get(file.name)
    return f"has no {wanted}" if wanted and wanted not in names else ""


@lru_cache(maxsize=64)  # many versions have the same programs
def _names_in(program: bytes) -> frozenset[str]:
    """The classes and functions that a program defines or imports by name. Raises SyntaxError and ValueError."""
    tree = ast.parse(program)
    defined = {node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    imported = {alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    return frozenset(defined | imported)


def check_copies(repository: Path, newest: Version) -> Finding:
    """Checks that tagger.json above the version folders is a copy of the newest version's."""
    faults = []
    names = model_names(newest.name)
    for folder in (names.ensemble, names.model):
        try:
            if TaggerSpec.read(repository / folder / SPEC_FILE) != newest.spec:
                faults.append(f"{folder}/{SPEC_FILE} is not that of version {newest.number}")
        except SpecError as error:
            faults.append(str(error))
    return verdict(newest.name, "copies", f"equal version {newest.number}'s {SPEC_FILE}", faults)
