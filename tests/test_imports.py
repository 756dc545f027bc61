"""Imports go one way between stages and between a stage's layers, without circles; serving loads no torch."""

import ast
import functools
import os
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
STAGES = ("labelwise", "training", "export", "teaching", "serving", "commands")
ALLOWED = {
    *(("training", "labelwise"), ("export", "labelwise"), ("export", "training"), ("serving", "labelwise")),
    *(("teaching", stage) for stage in ("labelwise", "training", "export")),
    *(("commands", stage) for stage in STAGES[:-1]),
}
# The layers of each stage, from below; a module may import from lower layers and from its own name. `*` stands for the
# modules that no other name covers. Two names in one layer do not import each other.
LAYERS = {
    "labelwise": ("errors image no_telemetry", "*"),
    "training": (
        *("memory metrics seeding yaml_values", "config", "augment", "data", "*", "report"),
        *("training_run", "compare"),
    ),
    "export": (
        *("half_storage", "* onnx_file tolerances", "source simplify half_arithmetic metadata pictures tensorrt"),
        *("parity labelled precision foreign checkpoint_graph triton_config", "check", "preflight", "publish"),
        "exporting bench",
    ),
    "teaching": (
        *("label_rows logistic given_photos", "taught_graph fit last_lesson", "feature_graph", "recalled"),
        *("lesson feature_process", "expectation"),
    ),
    "serving": (
        *("inference", "*", "decoding triton", "local_triton client", "engines", "gateway bulk doctor"),
        "label_studio",
    ),
    "commands": ("*",),
}
# What a user imports and runs. They reach upwards, lazily; so nothing below may import them.
FACES = {"labelwise", "labelwise.__main__"}


class Import(NamedTuple):
    importer: str
    imported: str
    place: str
    is_lazy: bool  # in a function, or for type checkers only


def module_name(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


FILES = {module_name(file): file for stage in STAGES for file in sorted((ROOT / stage).rglob("*.py"))}


def nodes(tree: ast.AST, is_lazy: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    for child in ast.iter_child_nodes(tree):
        yield child, is_lazy
        runs_later = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        never_runs = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
        yield from nodes(child, is_lazy or runs_later or never_runs)


def imported_names(node: ast.AST, module: str) -> list[str]:
    """The dotted names that `node` imports; relative ones made absolute."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    base = node.module or ""
    if node.level:
        package = module if FILES[module].name == "__init__.py" else module.rpartition(".")[0]
        parents = package.split(".")
        base = ".".join([*parents[: len(parents) - node.level + 1], *filter(None, [node.module])])
    return [name if (name := f"{base}.{alias.name}") in FILES else base for alias in node.names]


@functools.cache
def imports() -> list[Import]:
    """Every import of one module of the project by another, also those in functions and for type checkers."""
    found = []
    for module, file in FILES.items():
        for node, is_lazy in nodes(ast.parse(file.read_text(encoding="utf-8"))):
            for name in imported_names(node, module):
                if name in FILES and name != module:
                    place = f"{file.relative_to(ROOT)}:{node.lineno} imports {name}"  # type: ignore[attr-defined]
                    found.append(Import(module, name, place, is_lazy))
    return found


def stage_of(module: str) -> str:
    return module.partition(".")[0]


def layer_of(module: str) -> tuple[int, str]:
    """The height of the module's layer and the name there that covers it."""
    stage, _, inner = module.partition(".")
    layers = [layer.split() for layer in LAYERS[stage]]
    covering = [name for layer in layers for name in layer if f"{inner}.".startswith(f"{name}.")]
    name = max(covering, key=len, default="*")
    return next(height for height, layer in enumerate(layers) if name in layer), name


def goes_up(importer: str, imported: str) -> bool:
    (height, name), (other, its_name) = layer_of(importer), layer_of(imported)
    return other > height or (other == height and its_name != name)


def test_imports_between_stages_go_one_way():
    between = {
        (stage_of(found.importer), stage_of(found.imported)): found.place
        for found in imports()
        if stage_of(found.importer) != stage_of(found.imported) and found.importer not in FACES
    }
    assert [place for edge, place in between.items() if edge not in ALLOWED] == []
    assert between.keys() == ALLOWED  # the walk does see imports


def test_imports_within_a_stage_go_down():
    inside = [found for found in imports() if stage_of(found.importer) == stage_of(found.imported)]
    assert len(inside) > 100
    wrong = [found for found in inside if found.importer not in FACES and goes_up(found.importer, found.imported)]
    assert [found.place for found in wrong] == []


def test_every_name_of_a_layer_is_a_module():
    named = {f"{stage}.{name}" for stage, layers in LAYERS.items() for name in " ".join(layers).split() if name != "*"}
    assert named - FILES.keys() == set()


def test_there_is_no_circle_of_modules():
    graph: dict[str, set[str]] = {module: set() for module in FILES}
    for found in imports():
        graph[found.importer].add(found.imported)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"These modules import one another in a circle: {' <- '.join(error.args[1])}")


def test_nothing_imports_what_only_users_import():
    assert [found.place for found in imports() if found.imported in FACES] == []


def test_what_reaches_upwards_does_so_lazily():
    """The command line reaches every stage, and `import labelwise` the client, when they are first needed."""
    upwards = [found for found in imports() if stage_of(found.importer) == "commands" or found.importer == "labelwise"]
    at_once = {stage_of(found.imported) for found in upwards if not found.is_lazy}
    assert at_once <= {"commands", "labelwise"}
    assert {stage_of(found.imported) for found in upwards} >= {"training", "export", "serving"}


def test_every_module_is_in_a_package_that_is_installed():
    """setuptools finds folders that have an __init__.py; a wheel would lack the others."""
    folders = {file.parent for file in FILES.values()}
    assert len(folders) > len(STAGES)
    assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []


def top_level_imports(file: Path) -> set[str]:
    """The packages that `file` imports, wherever it does so; a relative import stays in its own package."""
    found = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    absolute = [name for node in found if not getattr(node, "level", 0) for name in imported_names(node, "labelwise")]
    return {name.partition(".")[0] for name in absolute}


@pytest.mark.parametrize(
    ("pattern", "allowed"),
    [
        ("labelwise/image/*.py", {"numpy", "PIL", "pillow_heif"}),  # the last only where it is installed
        (
            "export/triton_models/[!_]*.py",
            {"numpy", "onnxruntime", "triton_python_backend_utils", "labelwise_image", "labelwise_precision"},
        ),
    ],
)
def test_what_export_copies_into_triton_needs_nothing_that_triton_lacks(pattern: str, allowed: set[str]):
    files = list(ROOT.glob(pattern))
    assert files
    for file in files:
        assert top_level_imports(file) - set(sys.stdlib_module_names) <= allowed, file


def test_the_gateway_loads_no_training_stack_and_no_grpc_without_a_triton():
    code = """
import sys, serving.gateway.app, serving.gateway.launch, serving.gateway.worker
print(*{"torch", "timm", "torchvision", "sklearn", "onnx", "grpc", "training", "export"} & {*sys.modules})
"""
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert answer.stdout.split() == []


def loaded_by(arguments: list[str], folder: Path) -> set[str]:
    """The modules that `labelwise` has loaded when it ends, also those inside packages, by their first two names."""
    code = f"""
import sys
from commands import main
sys.argv[1:] = {arguments!r}
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print(*{{".".join(name.split(".")[:2]) for name in sys.modules}})
"""
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": ROOT}
    )
    assert answer.returncode == 0, answer.stderr
    return set(answer.stdout.splitlines()[-1].split())


HEAVY = {"numpy", "PIL", "pydantic", "onnxruntime", "fastapi", "grpc", "pyarrow", "pandas", "lxml", "torch", "asyncio"}


def test_help_loads_nothing_but_the_command_line(tmp_path: Path):
    assert loaded_by(["--help"], tmp_path) & {*HEAVY, "serving", "labelwise.spec"} == set()


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_tagging_here_loads_nothing_for_servers_or_other_formats(suffix: str, repository: Path, tmp_path: Path):
    photo = ROOT / "tests/assets/photos/coffee-cup.jpg"
    arguments = ["tag", str(photo), "--repository", str(repository), "--out", f"t.{suffix}"]
    used = {"numpy", "PIL", "pydantic", "onnxruntime", "asyncio", *(["pyarrow"] if suffix == "parquet" else [])}
    assert loaded_by(arguments, tmp_path) & {*HEAVY, "uvicorn", "tritonclient", "httpx"} == used


def test_checking_and_foreign_graphs_load_no_training_stack():
    code = """
import sys, export.check, export.foreign, export.exporting
print(*{"torch", "timm", "torchvision", "sklearn", "onnxscript", "training"} & {*sys.modules})
"""
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert answer.stdout.split() == []


def test_a_package_with_onnx_runtime_switches_its_reports_off_first():
    """A package's __init__ runs before any module in it."""
    modules = {module for module, file in FILES.items() if "onnxruntime" in top_level_imports(file)}
    at_once = {
        found.importer for found in imports() if found.imported == "labelwise.no_telemetry" and not found.is_lazy
    }
    assert {stage_of(module) for module in modules} >= {"labelwise", "training", "export", "serving"}
    assert [module for module in modules if not any(module.startswith(f"{package}.") for package in at_once)] == []


def test_onnx_runtime_reports_to_nobody(tmp_path: Path):
    """Its wheel for GPUs would leave a device id in the user's home."""
    program = "import serving.onnx_session, export.onnx_file, time; time.sleep(0.5)"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, env=os.environ | {"HOME": str(tmp_path)})
    assert list(tmp_path.iterdir()) == []
