"""TensorRT plans, with stand-ins for `trtexec` and the package: this shows what is asked, not that it would be done."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from export.tensorrt import Plan, build_plan
from labelwise.errors import LabelwiseError
from labelwise.spec import TaggerSpec
from tests.export.tensorrt_api import TensorRT

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt") is not None, reason="the real tensorrt package would be used"
)

# Like the real one, it names its version first, refuses options that its version lacks, and writes the engine and the
# timing cache into the files named. Version 11 has removed the options for precisions, and with types of their own
# networks of version 10 do not take them.
TRTEXEC = """#!{python}
import json, sys
from pathlib import Path
KNOWN = "onnx saveEngine minShapes optShapes maxShapes timingCacheFile skipInference noTF32 stronglyTyped".split()
REMOVED = "fp16 bf16 int8 fp8 int4 best calib precisionConstraints layerPrecisions directIO".split()
print("&&&& RUNNING TensorRT.trtexec [TensorRT v{version}] [b26] # trtexec")
if sys.argv[1:] != ["--help"]:
    Path({record!r}).write_text(json.dumps(sys.argv[1:]))
    options = dict(argument.partition("=")[::2] for argument in sys.argv[1:])
    known = KNOWN if int("{version}") >= 110000 or "--stronglyTyped" in options else KNOWN + REMOVED
    for option in options:
        if option.removeprefix("--") not in known:
            sys.exit(print("[E] Unknown option:", option) or 1)
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
        self.cache = folder / "cache/labelwise"
        monkeypatch.setenv("PATH", str(folder))
        monkeypatch.setenv("XDG_CACHE_HOME", str(self.cache.parent))
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


@pytest.mark.parametrize(
    ("number", "name", "flags"),
    [("100300", "trt10.3.0-sm90", ["--stronglyTyped"]), ("110400", "trt11.4.0-sm90", [])],
)
def test_trtexec_is_asked_for_explicit_shapes_and_files_that_name_version_and_gpu(
    number: str, name: str, flags: list[str], machine: Machine, out: Path, graph: Path, spec: TaggerSpec
):
    machine.trtexec(number)
    machine.gpus("9.0", "9.0")
    plan = build_plan(graph, spec, out)
    assert plan == Plan(out / f"model.{name}.plan", "9.0")
    assert [file.name for file in out.iterdir()] == [f"model.{name}.plan"]
    assert machine.arguments() == [
        f"--onnx={graph}",
        f"--saveEngine={out}/model.{name}.plan",
        "--minShapes=image:1x32x48x3",
        "--optShapes=image:5x32x48x3",
        "--maxShapes=image:5x32x48x3",
        f"--timingCacheFile={machine.cache}/timing.{name}.cache",
        "--skipInference",
        *flags,
    ]


@pytest.mark.parametrize(
    ("version", "name", "flags"), [("10.16.1.11", "trt10.16.1-sm90", 1 << 1), ("11.4.0.106", "trt11.4.0-sm90", 0)]
)
def test_the_package_is_asked_for_the_same(
    version: str, name: str, flags: int, machine: Machine, out: Path, graph: Path, spec: TaggerSpec, monkeypatch
):
    tensorrt = TensorRT(version)
    monkeypatch.setitem(sys.modules, "tensorrt", tensorrt)
    machine.gpus("9.0")
    assert build_plan(graph, spec, out) == Plan(out / f"model.{name}.plan", "9.0")
    timings = machine.cache / f"timing.{name}.cache"
    assert ((out / f"model.{name}.plan").read_bytes(), timings.read_bytes()) == (b"engine", b"timings")
    assert [(network.flags, network.file) for network in tensorrt.networks] == [(flags, str(graph))]
    shapes = [(1, 32, 48, 3), (5, 32, 48, 3), (5, 32, 48, 3)]
    assert tensorrt.configs[0].profile.shapes == {"image": shapes}


def test_a_build_begins_with_the_timings_of_the_one_before_if_they_are_good(
    machine: Machine, out: Path, graph: Path, spec: TaggerSpec, monkeypatch: pytest.MonkeyPatch
):
    tensorrt = TensorRT("11.4.0.106")
    monkeypatch.setitem(sys.modules, "tensorrt", tensorrt)
    machine.gpus("9.0")
    build_plan(graph, spec, out)
    build_plan(graph, spec, out)
    for bad in (b"broken", b"of another GPU"):
        (machine.cache / "timing.trt11.4.0-sm90.cache").write_bytes(bad)
        build_plan(graph, spec, out)
        assert (machine.cache / "timing.trt11.4.0-sm90.cache").read_bytes() == b"timings"
    assert [config.cache.start for config in tensorrt.configs] == [b"", b"timings", b"", b""]
    monkeypatch.setenv("XDG_CACHE_HOME", str(graph))  # no folder can be made there
    build_plan(graph, spec, out)
    assert (out / "timing.trt11.4.0-sm90.cache").is_file()


@pytest.mark.parametrize(
    ("tensorrt", "words"),
    [
        (TensorRT("8.6.1"), "TensorRT 8.6.1 cannot build a plan: 10 or 11 is needed"),
        (TensorRT("12.0.0.1"), "TensorRT 12.0.0 cannot build a plan: 10 or 11 is needed"),
        (TensorRT("11.4.0.106", fault="no UINT8"), "TensorRT cannot read the graph: no UINT8"),
        (TensorRT("11.4.0.106", engine=None), "TensorRT could not build a plan"),
    ],
    ids=["8", "12", "a graph that it cannot read", "a build that fails"],
)
def test_the_package_says_why_there_is_no_plan(
    tensorrt: TensorRT, words: str, machine: Machine, out: Path, graph: Path, spec: TaggerSpec, monkeypatch
):
    monkeypatch.setitem(sys.modules, "tensorrt", tensorrt)
    machine.gpus("9.0")
    assert words in refusal(graph, spec, out)


def test_an_engine_is_fastest_at_eight_and_takes_the_largest_batch(
    machine: Machine, out: Path, graph: Path, spec: TaggerSpec
):
    machine.trtexec("101201")
    machine.gpus("12.0")
    build_plan(graph, spec.model_copy(update={"max_batch": 64}), out)
    assert {file.name for file in out.iterdir()} == {"model.trt10.12.1-sm120.plan"}
    assert {file.name for file in machine.cache.iterdir()} == {"timing.trt10.12.1-sm120.cache"}
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
    wanted = "There is no TensorRT here: pip install 'labelwise[tensorrt]', or put trtexec on the PATH"
    assert wanted in refusal(graph, spec, out)
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
    assert "TensorRT 8.6.1 cannot build a plan: 10 or 11" in refusal(graph, spec, out)
    machine.install("trtexec", "#!/bin/sh\necho something else\n")
    assert "does not say which TensorRT it is" in refusal(graph, spec, out)
    machine.install("trtexec", "#!/no/such/interpreter\n")
    assert "cannot be run" in refusal(graph, spec, out)
