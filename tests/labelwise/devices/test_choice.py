"""Which device models run on. This machine has none but its CPU, so the reasons are real ones."""

import ctypes
from pathlib import Path

import pytest

from labelwise.devices import libraries
from labelwise.devices.choice import (
    CPU,
    Device,
    choose_device,
    fault_of,
    provider_options,
    remedy_for,
    rtx_options,
)
from labelwise.devices.names import DeviceName
from labelwise.errors import LabelwiseError, RepositoryError
from labelwise.repository import Repository
from labelwise.spec import TaggerSpec
from serving.onnx_session import load_session
from tests.conftest import ROOT

GPU_DEVICES = ("cuda", "tensorrt", "tensorrt-rtx")


def has_driver() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


without_gpu = pytest.mark.skipif(has_driver(), reason="this machine has NVIDIA's driver")


def test_the_cpu_always_works():
    assert choose_device("cpu") == CPU
    assert fault_of("cpu") == ""


@without_gpu
def test_auto_takes_the_cpu_and_says_why():
    device = choose_device("auto")
    assert (device.name, device.gpus) == ("cpu", 0)
    assert device.reason.startswith("there is no NVIDIA driver (libcuda.so.1 is missing)")


@without_gpu
@pytest.mark.parametrize("name", GPU_DEVICES)
def test_a_device_that_is_asked_for_is_never_replaced(name: str):
    with pytest.raises(LabelwiseError) as caught:
        choose_device(name)
    message = str(caught.value)
    assert message.startswith(f"--device {name} does not work here: there is no NVIDIA driver")
    assert "What to do: install NVIDIA's newest driver" in message
    assert "\n" not in message


@without_gpu
def test_what_to_install_is_named_even_before_there_is_a_driver():
    """An image is built where there is no GPU."""
    assert fault_of("tensorrt-rtx").endswith("is not installed")
    assert remedy_for("tensorrt-rtx").endswith("pip install 'labelwise[tensorrt-rtx]'")


def test_a_library_that_does_not_load_is_named(tmp_path: Path):
    broken = tmp_path / "libbroken.so"
    broken.write_bytes(b"not a library")
    assert "libbroken.so" in libraries._fault_of(broken)
    assert libraries._fault_of(Path("libno-such-thing.so.7")) == "libno-such-thing.so.7 is missing"
    assert libraries._fault_of(Path("libc.so.6")) == ""


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TaggerSpec:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return TaggerSpec.read(ROOT / "model_repository/scenes")


def test_each_gpu_gets_its_number(spec: TaggerSpec):
    ((name, options),) = provider_options(Device("cuda", 2, ""), 1, spec, "a graph")
    assert (name, options["device_id"]) == ("CUDAExecutionProvider", 1)


def test_tensorrt_compiles_once_for_all_batches_and_keeps_engines_by_graph(spec: TaggerSpec):
    (name, first), (behind, _) = provider_options(Device("tensorrt", 1, ""), 0, spec, "a graph")
    (_, second), _ = provider_options(Device("tensorrt", 1, ""), 0, spec, "another")
    assert (name, behind) == ("TensorrtExecutionProvider", "CUDAExecutionProvider")  # for what TensorRT cannot run
    size = "x".join(map(str, spec.input.shape))
    shapes = [first[f"trt_profile_{which}_shapes"] for which in ("min", "opt", "max")]
    assert shapes == [f"image:1x{size}", f"image:8x{size}", f"image:{spec.max_batch}x{size}"]
    assert first["trt_engine_cache_path"] != second["trt_engine_cache_path"]
    assert Path(first["trt_engine_cache_path"]).is_dir()


def test_the_rtx_plugin_has_a_cache_for_each_graph(spec: TaggerSpec):
    folders = [rtx_options(spec, key)["nv_runtime_cache_path"] for key in ("a graph", "another")]
    assert folders[0] != folders[1]
    assert all(Path(folder).is_dir() for folder in folders)


@without_gpu
@pytest.mark.parametrize("name", GPU_DEVICES)
def test_a_session_that_would_run_on_the_cpu_is_refused(name: DeviceName, spec: TaggerSpec):
    """ONNX Runtime itself falls back, and only logs it."""
    version = Repository.open(ROOT / "model_repository", only="scenes").taggers["scenes"][1]
    with pytest.raises(RepositoryError, match=f"scenes version 1.*{name}"):
        load_session(version, 1, Device(name, 1, ""))
