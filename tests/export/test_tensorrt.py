"""TensorRT plans, with a stand-in for `trtexec`: this shows what it is asked to do, not that it would do it."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from export.tensorrt import Plan, build_plan
from labelwise.errors import LabelwiseError
from labelwise.spec import TaggerSpec

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt") is not None, reason="the real tensorrt package would be used"
)

# Like the real one, it names its version first and writes the engine and the timing cache into the files named.
TRTEXEC = """#!{python}
import json, sys
from pathlib import Path
print("&&&& RUNNING TensorRT.trtexec [TensorRT v{version}] [b26] # trtexec")
if sys.argv[1:] != ["--help"]:
    Path({record!r}).write_text(json.dumps(sys.argv[1:]))
    options = dict(argument.partition("=")[::2] for argument in sys.argv[1:])
    Path(options["--saveEngine"]).write_bytes(b"engine"[:{size}])
    Path(options["--timingCacheFile"]).write_bytes(b"timings")
    print("[I] Building engine\\n{says}")
    sys.exit({code})
"""


class Machine:
    """The only programs on the PATH, and what trtexec was called with."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.record = folder, folder / "record.json"
        folder.mkdir()
        monkeypatch.setenv("PATH", str(folder))
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def install(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)
        (self.folder / name).chmod(0o755)

    def trtexec(self, version: str = "100300", code: int = 0, says: str = "", size: int = 6) -> None:
        values = {"version": version, "code": code, "says": says, "size": size, "record": str(self.record)}
        self.install("trtexec", TRTEXEC.format(python=sys.executable, **values))

    def gpus(self, *capabilities: str) -> None:
        lines = "".join(f"echo {capability}\n" for capability in capabilities)
        self.install("nvidia-smi", f'#!/bin/sh\necho "$@" > {self.folder}/asked\n{lines}')

    def arguments(self) -> list[str]:
        return json.loads(self.record.read_text())


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path / "bin", monkeypatch)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out put").mkdir()
    return tmp_path / "out put"


@pytest.mark.parametrize(("precision", "flags"), [("fp32", []), ("fp16", ["--fp16"]), ("int8", ["--int8", "--fp16"])])
def test_trtexec_is_asked_for_explicit_shapes_and_files_that_name_version_and_gpu(
    precision, flags: list[str], machine: Machine, out: Path, graph: Path, spec: TaggerSpec
):
    machine.trtexec()
    machine.gpus("9.0", "9.0")
    plan = build_plan(graph, spec, out, precision)
    assert plan == Plan(out / "model.trt10.3.0-sm90.plan", "9.0")
    assert sorted(file.name for file in out.iterdir()) == ["model.trt10.3.0-sm90.plan", "timing.trt10.3.0-sm90.cache"]
    assert machine.arguments() == [
        f"--onnx={graph}",
        f"--saveEngine={out}/model.trt10.3.0-sm90.plan",
        "--minShapes=image:1x32x48x3",
        "--optShapes=image:5x32x48x3",
        "--maxShapes=image:5x32x48x3",
        f"--timingCacheFile={out}/timing.trt10.3.0-sm90.cache",
        "--skipInference",
        *flags,
    ]


def test_an_engine_is_fastest_at_eight_and_takes_the_largest_batch(
    machine: Machine, out: Path, graph: Path, spec: TaggerSpec
):
    machine.trtexec("101201")
    machine.gpus("12.0")
    build_plan(graph, spec.model_copy(update={"max_batch": 64}), out)
    assert {file.name for file in out.iterdir()} == {"model.trt10.12.1-sm120.plan", "timing.trt10.12.1-sm120.cache"}
    shapes = [argument for argument in machine.arguments() if "Shapes" in argument]
    assert [shape.partition(":")[2] for shape in shapes] == ["1x32x48x3", "8x32x48x3", "64x32x48x3"]


def test_the_plan_is_for_the_visible_gpu(
    machine: Machine, out: Path, graph: Path, spec: TaggerSpec, monkeypatch: pytest.MonkeyPatch
):
    machine.trtexec()
    machine.gpus("8.6")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert build_plan(graph, spec, out).capability == "8.6"
    assert "--id=2" in (machine.folder / "asked").read_text()


def refusal(graph: Path, spec: TaggerSpec, out: Path) -> str:
    with pytest.raises(LabelwiseError) as caught:
        build_plan(graph, spec, out)
    assert "\n" not in str(caught.value)
    assert not list(out.glob("*.plan"))
    return str(caught.value)


def test_without_tensorrt_the_error_says_what_to_install(machine: Machine, out: Path, graph: Path, spec: TaggerSpec):
    assert "There is no TensorRT here: pip install tensorrt, or put trtexec on the PATH" in refusal(graph, spec, out)
    assert list(out.iterdir()) == []


def test_without_one_kind_of_gpu_nothing_is_built(machine: Machine, out: Path, graph: Path, spec: TaggerSpec):
    machine.trtexec()
    assert "nvidia-smi finds none" in refusal(graph, spec, out)
    machine.gpus("8.0", "9.0")
    assert "names 8.0, 9.0: choose one with CUDA_VISIBLE_DEVICES" in refusal(graph, spec, out)
    machine.gpus("[N/A]")
    assert "choose one" in refusal(graph, spec, out)
    assert not machine.record.exists()


def test_a_build_that_fails_says_why_and_leaves_no_plan(machine: Machine, out: Path, graph: Path, spec: TaggerSpec):
    machine.gpus("9.0")
    machine.trtexec(code=1, says="[E] Error[4]: no UINT8\\n[E] Engine set up failed")
    assert "trtexec could not build a plan: [E] Error[4]: no UINT8" in refusal(graph, spec, out)
    machine.trtexec(size=0)
    assert "without a plan" in refusal(graph, spec, out)
    machine.trtexec("8601")
    assert "TensorRT 8.6.1 is too old: 10.0 or newer" in refusal(graph, spec, out)
    machine.install("trtexec", "#!/bin/sh\necho something else\n")
    assert "does not say which TensorRT it is" in refusal(graph, spec, out)
    machine.install("trtexec", "#!/no/such/interpreter\n")
    assert "cannot be run" in refusal(graph, spec, out)
