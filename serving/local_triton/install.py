"""Finds a Triton on this machine, and what it needs to run this Python's packages."""

import importlib.util
import os
import re
import shutil
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from labelwise.errors import LabelwiseError

_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
_STUB = "triton_python_backend_stub"  # the program in which the Python backend runs a model.py
_KNOWS_NUMPY_2 = (2, 53)  # the first Triton whose release notes do not list NumPy 2 as a known issue


@dataclass(frozen=True)
class TritonInstall:
    """A Triton that can be started.

    The dynamic loader also needs the folders `libraries`. `stub` is the program in which the Python backend runs a
    model with this Python, if it still has to be put beside that backend.
    """

    binary: Path
    backends: Path
    libraries: tuple[Path, ...] = ()
    stub: Path | None = None

    @property
    def has_onnxruntime(self) -> bool:
        return (self.backends / "onnxruntime").is_dir()

    @property
    def runs_this_python(self) -> bool:
        """Returns whether its Python backend can import what is installed for this Python."""
        stub = self.backends / "python" / _STUB
        return self.stub is not None or (stub.is_file() and f"libpython{_PYTHON}.so".encode() in stub.read_bytes())

    def require_numpy(self) -> None:
        """Raises LabelwiseError if its Python backend would misread the arrays of this Python.

        With NumPy 2, the Python backend of Triton 2.51 misreads inputs and returns empty outputs, without an error.
        """
        if self.runs_this_python and int(np.__version__.partition(".")[0]) >= 2 and self._version < _KNOWS_NUMPY_2:
            raise LabelwiseError(
                f"Triton's Python backend gives wrong results with NumPy {np.__version__}: pip install 'numpy<2', or "
                "pass --triton-url."
            )

    @property
    def _version(self) -> tuple[int, ...]:
        """The version that NVIDIA's images state; (0,) if none is stated."""
        stated = self.backends.parent / "TRITON_VERSION"
        found = re.match(r"(\d+)\.(\d+)", stated.read_text()) if stated.is_file() else None
        return tuple(map(int, found.groups())) if found else (0,)

    def lay_out_backends(self, folder: Path) -> Path:
        """Returns the folder for --backend-directory: the backends' own, or the empty `folder`, filled with links."""
        if self.stub is None:
            return self.backends
        for backend in self.backends.iterdir():
            (folder / backend.name).mkdir()
            for file in backend.iterdir():
                (folder / backend.name / file.name).symlink_to(file)
        (folder / "python" / _STUB).symlink_to(self.stub)
        return folder

    def environment(self) -> dict[str, str]:
        """Returns this process's environment, with what Triton and its Python backend have to find."""
        additions = {"LD_LIBRARY_PATH": [str(folder) for folder in self.libraries]}
        if self.runs_this_python:
            additions["PATH"] = [str(Path(sys.executable).parent)]  # where the stub's Python looks for its own library
            additions["PYTHONPATH"] = list(
                dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
            )
        environment = dict(os.environ)
        for name, folders in additions.items():
            before = [environment[name]] if environment.get(name) else []
            if folders:
                environment[name] = os.pathsep.join([*folders, *before])
        return environment


def find_triton() -> TritonInstall:
    """Returns the `tritonserver` on PATH, or that of the nvidia-pytriton wheel. Raises LabelwiseError without both."""
    return _on_path() or _in_wheel()


def _on_path() -> TritonInstall | None:
    found = shutil.which("tritonserver")
    if found is None:
        return None
    beside = Path(found).resolve().parent.parent / "backends"
    return TritonInstall(Path(found), beside if beside.is_dir() else Path("/opt/tritonserver/backends"))


def _in_wheel() -> TritonInstall:
    spec = importlib.util.find_spec("pytriton")  # found, not imported: it starts things when imported
    if spec is None or not spec.submodule_search_locations:
        raise LabelwiseError("There is no Triton here: pip install 'labelwise[triton]', or pass --triton-url.")
    package = Path(spec.submodule_search_locations[0])
    server = package / "tritonserver"
    stub = server / "python_backend_stubs" / _PYTHON / _STUB
    if not stub.is_file():
        raise LabelwiseError(
            f"The Triton of nvidia-pytriton does not support Python {_PYTHON}; pass --triton-url instead."
        )
    libraries = (package.parent / "nvidia_pytriton.libs", Path(sysconfig.get_config_var("LIBDIR")))
    return TritonInstall(server / "bin" / "tritonserver", server / "backends", libraries, stub)


def trace_arguments(endpoint: str) -> tuple[str, ...]:
    """Returns options that trace only requests with a sampled traceparent: Triton traces those whatever its rate."""
    return (
        "--trace-config=mode=opentelemetry",
        "--trace-config=level=TIMESTAMPS",
        f"--trace-config=rate={2**31 - 1}",
        f"--trace-config=opentelemetry,url={endpoint.rstrip('/')}/v1/traces",
        "--trace-config=opentelemetry,resource=service.name=triton",
    )


def require_plain(workspace: Path) -> None:
    """Raises LabelwiseError for a path on which Triton's Python backend hangs (spaces) or fails (not ASCII)."""
    if not str(workspace).isascii() or " " in str(workspace):
        raise LabelwiseError(
            f"Triton cannot work in {workspace.parent}: the path must have no spaces and only ASCII letters. "
            "Set TMPDIR to another folder."
        )
