"""Imports go one way, training -> labelwise <- serving and export -> both, and the gateway stays free of torch."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("labelwise", "training", "export", "serving", "commands")
ALLOWED = {
    *(("training", "labelwise"), ("export", "labelwise"), ("export", "training"), ("serving", "labelwise")),
    *(("commands", "labelwise"), ("labelwise", "commands")),  # the latter: `python -m labelwise`
}


def imported_names(nodes: Iterator[ast.AST]) -> Iterator[tuple[str, int]]:
    """Top-level package and line of every absolute import; a relative one stays in its own package."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((alias.name.partition(".")[0], node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield (node.module or "").partition(".")[0], node.lineno


def outside_functions(tree: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(tree):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield child
            yield from outside_functions(child)


def edges(package: str) -> Iterator[tuple[tuple[str, str], str]]:
    for file in sorted((ROOT / package).rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        # The command line may reach every stage, but only once a verb is called.
        nodes = outside_functions(tree) if file.parent == ROOT / "commands" else ast.walk(tree)
        for name, line in imported_names(nodes):
            if name in PACKAGES and name != package:
                yield (package, name), f"{file.relative_to(ROOT)}:{line} imports {name}"


def test_imports_go_one_way():
    found = [edge for package in PACKAGES for edge in edges(package)]
    assert [where for edge, where in found if edge not in ALLOWED] == []
    assert {edge for edge, _ in found} == ALLOWED  # the walk does see imports


def test_every_module_is_in_a_package_that_is_installed():
    """setuptools finds folders that have an __init__.py; a wheel would lack the others."""
    folders = {file.parent for package in PACKAGES for file in (ROOT / package).rglob("*.py")}
    assert len(folders) > len(PACKAGES)
    assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_the_command_line_reaches_the_stages_inside_its_verbs():
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in (ROOT / "commands").glob("*.py")]
    reached = {name for tree in trees for name, _ in imported_names(ast.walk(tree))}
    assert {"training", "export", "serving"} <= reached


@pytest.mark.parametrize(
    ("pattern", "allowed"),
    [
        ("labelwise/image/*.py", {"numpy", "PIL", "pillow_heif"}),  # the last only where it is installed
        (
            "export/triton_models/[!_]*.py",
            {"numpy", "onnxruntime", "triton_python_backend_utils", "labelwise_image"},
        ),
    ],
)
def test_what_export_copies_into_triton_needs_nothing_that_triton_lacks(pattern: str, allowed: set[str]):
    files = list(ROOT.glob(pattern))
    assert files
    for file in files:
        names = {name for name, _ in imported_names(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))}
        assert names - set(sys.stdlib_module_names) <= allowed, file


def test_the_gateway_loads_no_training_stack():
    code = """
import sys, serving.gateway.app
print(*{"torch", "timm", "torchvision", "sklearn", "onnx", "training", "export"} & {*sys.modules})
"""
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert answer.stdout.split() == []


def test_checking_and_foreign_graphs_load_no_training_stack():
    code = """
import sys, export.check, export.foreign, export.run
print(*{"torch", "timm", "torchvision", "sklearn", "onnxscript", "training"} & {*sys.modules})
"""
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert answer.stdout.split() == []


def test_onnx_runtime_reports_to_nobody(tmp_path: Path):
    """Its wheel for GPUs would leave a device id in the user's home."""
    program = "import serving.onnx_session, export.onnx_file, onnxruntime, time; time.sleep(0.5)"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, env=os.environ | {"HOME": str(tmp_path)})
    assert list(tmp_path.iterdir()) == []
