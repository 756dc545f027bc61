"""A real Triton as a child process: started, watched, and never left behind."""

import asyncio
import contextlib
import importlib.util
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from labelwise.errors import LabelwiseError
from serving.local_triton import install as triton_install
from serving.local_triton import server as triton_server
from serving.local_triton.install import TritonInstall, find_triton
from serving.local_triton.process import parse_line
from serving.local_triton.server import LocalTriton
from tests.conftest import free_port
from tests.polling import until

try:
    find_triton()
    WHY_NOT = ""
except LabelwiseError as error:
    WHY_NOT = str(error)

needs_triton = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)


def local_triton(repository: Path, **options: float) -> LocalTriton:
    ports = {"grpc_port": free_port(), "metrics_port": free_port()}
    return LocalTriton(repository, **(ports | options))  # type: ignore[arg-type]


def group(leader: int) -> dict[int, list[str]]:
    """Returns the living processes of a process group, with their command lines."""
    members = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, process_group = (folder / "stat").read_text().rpartition(")")[2].split()[:3]
            if int(process_group) == leader and state != "Z":
                members[int(folder.name)] = (folder / "cmdline").read_text().split("\0")
        except OSError:  # it ended meanwhile
            continue
    return members


def shared_memory(members: dict[int, list[str]]) -> list[Path]:
    """Returns the files of the Python backend's processes; a stub has the name of its file as an argument."""
    return [Path("/dev/shm", command[2]) for command in members.values() if command[0].endswith("_stub")]


async def start_and_stop(triton: LocalTriton) -> None:
    await triton.start()
    await triton.stop()


def assert_fails_in_one_line(triton: LocalTriton, *parts: str) -> None:
    with pytest.raises(LabelwiseError) as failure:
        asyncio.run(start_and_stop(triton))
    message = str(failure.value)
    assert "\n" not in message
    assert "\\n" not in message
    assert all(part in message for part in parts), message
    assert triton.pid is None


@needs_triton
def test_stop_leaves_nothing_behind(repository: Path) -> None:
    async def scenario() -> tuple[int, dict[int, list[str]], list[Path]]:
        triton = local_triton(repository)
        await triton.start()
        assert triton.pid is not None
        assert triton._process is not None
        scratch = triton._process.find_scratch()  # not known if other Tritons start meanwhile
        pid, members = triton.pid, group(triton.pid)
        leftovers = [*shared_memory(members), *([scratch] if scratch else [])]
        assert all(path.exists() for path in leftovers)
        await triton.stop()
        await triton.stop()
        assert triton.pid is None
        return pid, members, leftovers

    pid, members, leftovers = asyncio.run(scenario())
    assert len(members) > 1, "the decode model has a process of its own"
    assert not group(pid)
    assert not [path for path in leftovers if path.exists()]


@needs_triton
def test_a_repository_may_have_any_path(repository: Path, tmp_path: Path) -> None:
    """Triton's Python backend by itself hangs on a space in it, and fails on letters beyond ASCII."""
    copy = shutil.copytree(repository, tmp_path / "modèles à moi")
    asyncio.run(start_and_stop(local_triton(copy)))


@needs_triton
def test_killed_triton_is_started_again(repository: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        triton = local_triton(repository)
        await triton.start()
        first = triton.pid
        assert first is not None
        regions = shared_memory(group(first))
        try:
            os.kill(first, signal.SIGKILL)
            await asyncio.to_thread(until, lambda: triton.pid not in (None, first))
            assert not group(first)
            assert not [region for region in regions if region.exists()]
        finally:
            await triton.stop()

    asyncio.run(scenario())
    assert "exit status -9" in caplog.text


@needs_triton
def test_stop_while_restarting_leaves_nothing_behind(repository: Path) -> None:
    async def scenario() -> tuple[int, int | None]:
        triton = local_triton(repository)
        await triton.start()
        first = triton.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await asyncio.sleep(0.5)
        await triton.stop()
        return first, triton.pid

    first, second = asyncio.run(scenario())
    assert not group(first)
    assert second is None


@needs_triton
def test_cancelled_start_leaves_nothing_behind(repository: Path) -> None:
    async def scenario() -> int:
        triton = local_triton(repository)
        starting = asyncio.create_task(triton.start())
        await asyncio.to_thread(until, lambda: triton.pid is not None)
        pid = triton.pid
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        return pid

    assert not group(asyncio.run(scenario()))


@needs_triton
def test_triton_dies_with_a_killed_parent(repository: Path, tmp_path: Path) -> None:
    program = """
import asyncio, sys
from pathlib import Path
from serving.local_triton.server import LocalTriton

async def main():
    triton = LocalTriton(Path(sys.argv[1]), grpc_port=int(sys.argv[2]), metrics_port=int(sys.argv[3]))
    await triton.start()
    print(triton.pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""
    arguments = [str(repository), str(free_port()), str(free_port())]
    command = [sys.executable, "-c", program, *arguments]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert group(pid)
        parent.kill()
    until(lambda: not group(pid))
    until(lambda: not list(tmp_path.iterdir()))  # its folder of backends and models


@needs_triton
@pytest.mark.parametrize("name", ["with space", "größer"])
def test_a_folder_that_its_python_backend_cannot_use(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """It would hang until the start times out."""
    (tmp_path / name).mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / name))
    with pytest.raises(LabelwiseError, match=f"{name}: .* TMPDIR"):
        asyncio.run(LocalTriton(repository, grpc_port=free_port(), metrics_port=free_port()).start())
    assert not list((tmp_path / name).iterdir())


@needs_triton
@pytest.mark.parametrize("use", ["grpc_port", "metrics_port"])
def test_port_in_use(repository: Path, use: str) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert_fails_in_one_line(local_triton(repository, **{use: port}), str(port), "in use")


@needs_triton
@pytest.mark.parametrize("missing", ["config.pbtxt", "1"])
def test_an_incomplete_repository(repository: Path, tmp_path: Path, missing: str) -> None:
    broken = shutil.copytree(repository, tmp_path / "repository")
    model = next(broken.glob("*_model"))
    shutil.rmtree(model / "configs", ignore_errors=True)
    part = model / missing
    shutil.rmtree(part) if part.is_dir() else part.unlink()
    assert_fails_in_one_line(local_triton(broken), "Triton did not start", model.name)


@needs_triton
def test_a_model_that_cannot_be_loaded(repository: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(repository, tmp_path / "repository")
    next(broken.glob("*_model/1/model.onnx")).write_bytes(b"not a model")
    assert_fails_in_one_line(local_triton(broken), "Triton did not start", "model.onnx")


@needs_triton
def test_a_start_that_takes_too_long(repository: Path) -> None:
    assert_fails_in_one_line(local_triton(repository, start_timeout=0.1), "not ready within 0.1 s")


def test_a_binary_that_does_not_exist(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "python").mkdir()
    install = TritonInstall(tmp_path / "tritonserver", tmp_path)
    monkeypatch.setattr(triton_server, "find_triton", lambda: install)
    assert_fails_in_one_line(local_triton(repository), "did not start", "tritonserver")


@needs_triton
def test_numpy_2_is_refused_before_anything_starts(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton 2.51 would answer with empty outputs, and misread inputs, without an error."""
    monkeypatch.setattr(np, "__version__", "2.1.3")
    assert_fails_in_one_line(local_triton(repository), "NumPy 2.1.3", "pip install 'numpy<2'", "--triton-url")


@pytest.mark.parametrize(("version", "refused"), [("2.51.0", True), ("2.60.0", False), (None, True)])
def test_numpy_2_is_accepted_for_tritons_that_support_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str | None, refused: bool
) -> None:
    (tmp_path / "backends/python").mkdir(parents=True)
    this = f"libpython{sys.version_info.major}.{sys.version_info.minor}.so.1.0"
    (tmp_path / "backends/python/triton_python_backend_stub").write_bytes(this.encode())
    if version:
        (tmp_path / "TRITON_VERSION").write_text(f"{version}\n")
    install = TritonInstall(tmp_path / "bin/tritonserver", tmp_path / "backends")
    for numpy, fails in (("1.26.4", False), ("2.1.3", refused)):
        monkeypatch.setattr(np, "__version__", numpy)
        with pytest.raises(LabelwiseError, match=r"NumPy 2\.1\.3") if fails else contextlib.nullcontext():
            install.require_numpy()
    # A Triton with another Python has another NumPy, too.
    (tmp_path / "backends/python/triton_python_backend_stub").write_bytes(b"libpython2.7.so.1.0")
    install.require_numpy()


def test_no_triton_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(LabelwiseError, match=r"pip install 'labelwise\[triton\]'.*--triton-url"):
        find_triton()


def test_wheel_without_this_python(monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("pytriton") is None:
        pytest.skip("nvidia-pytriton is not installed")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(triton_install, "_PYTHON", "3.99")
    with pytest.raises(LabelwiseError, match=r"Python 3\.99"):
        find_triton()


def test_triton_on_path_brings_its_own_backends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("bin", "backends/onnxruntime", "backends/python"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "bin/tritonserver").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("PYTHONPATH", "theirs")
    install = find_triton()
    assert install == TritonInstall(tmp_path / "bin/tritonserver", tmp_path / "backends")
    assert install.has_onnxruntime
    assert install.lay_out_backends(tmp_path) == tmp_path / "backends"
    # A stub for another Python must not be given this one's packages.
    (tmp_path / "backends/python/triton_python_backend_stub").write_bytes(b"libpython2.7.so.1.0")
    assert install.environment()["PYTHONPATH"] == "theirs"


@pytest.mark.parametrize(
    ("line", "level", "message"),
    [
        ('I1123 23:22:43.667660 85 lifecycle.cc:839] "successfully loaded"', logging.INFO, "successfully loaded"),
        (
            'E1123 23:22:43.667660 85 main.cc:245] "failed to start GRPC service"',
            logging.ERROR,
            "failed to start GRPC service",
        ),
        ('W1123 23:22:43.667660 85 metrics.cc:798] "DCGM unable to start"', logging.DEBUG, "DCGM unable to start"),
        ("I1123 23:22:43.667660 85 server.cc:604] ", logging.DEBUG, ""),
        ("| scenes | 1 | READY |", logging.DEBUG, "| scenes | 1 | READY |"),
        ("Error: Failed to initialize NVML", logging.DEBUG, "Error: Failed to initialize NVML"),
        ("error: creating server: Internal", logging.ERROR, "error: creating server: Internal"),
        ("printed by a model", logging.INFO, "printed by a model"),
    ],
)
def test_levels_of_log_lines(line: str, level: int, message: str) -> None:
    assert parse_line(line.rstrip()) == (level, message)
