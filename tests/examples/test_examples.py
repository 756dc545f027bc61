"""The examples in other languages, run as they stand against a real Triton; each skips visibly without its tools."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tritonclient.grpc import service_pb2

from tests.polling import PATIENCE

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = ROOT / "examples"
GO_PACKAGES = Path("/usr/share/gocode")  # where Debian keeps the sources of Go's libraries


def run(command: list[str | Path], cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    path = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(cwd)}
    return subprocess.run(command, cwd=cwd, env=path | environment, capture_output=True, text=True, timeout=PATIENCE)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> list[str | Path]:
    """The command of the JavaScript example, its libraries installed in a copy."""
    if not shutil.which("npm"):
        pytest.skip("no Node.js here")
    folder = shutil.copytree(EXAMPLES, tmp_path_factory.mktemp("node js") / "examples") / "javascript"
    installed = run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], folder)
    if installed.returncode:
        pytest.skip(f"npm cannot install gRPC here: {installed.stderr.strip().splitlines()[-1]}")
    return ["node", folder / "tag.mjs"]


@pytest.fixture(scope="module")
def go(tmp_path_factory: pytest.TempPathFactory) -> list[str | Path]:
    """The Go example, compiled with Debian's packages of Go's gRPC, which need no network."""
    has_tools = all(map(shutil.which, ("go", "protoc", "protoc-gen-go", "protoc-gen-go-grpc")))
    if not has_tools or not all(
        (GO_PACKAGES / "src/google.golang.org" / name).is_dir() for name in ("grpc", "protobuf")
    ):
        packages = "golang-go golang-google-grpc-dev golang-github-golang-protobuf-1-5-dev protoc-gen-go{,-grpc}"
        pytest.skip(f"apt install {packages} would bring it")
    workspace = tmp_path_factory.mktemp("go")
    source = workspace / "src/labelwise.example/tag"
    source.mkdir(parents=True)
    shutil.copy(EXAMPLES / "go/main.go", source)
    generate = ["protoc", "-I", EXAMPLES, f"--go_out={workspace}/src", f"--go-grpc_out={workspace}/src"]
    assert run([*generate, "open_inference.proto"], workspace).stderr == ""
    built = run(["go", "build", "-o", "tag", "."], source, GO111MODULE="off", GOPATH=f"{workspace}:{GO_PACKAGES}")
    assert built.returncode == 0, built.stderr
    return [source / "tag"]


@pytest.fixture(params=["node", "go"])
def example(request: pytest.FixtureRequest) -> list[str | Path]:
    return request.getfixturevalue(request.param)


def test_an_example_says_what_the_gateway_says(
    example: list[str | Path], triton_gateway_url: str, triton_arguments: dict[str, str], photos: list[Path]
):
    command = [*example, f"127.0.0.1:{triton_arguments['triton_grpc_port']}", "scenes", *photos[:8]]
    answer = run(command, ROOT)
    assert (answer.returncode, answer.stderr) == (0, "")
    lines = answer.stdout.splitlines()
    assert len(lines) == 8
    for photo, line in zip(photos, lines, strict=False):
        asked = httpx.post(f"{triton_gateway_url}/v1/tag?scores=all", content=photo.read_bytes()).json()
        name, *tags = line.split("\t")
        assert name == str(photo)
        for tag, expected in zip(tags, asked["scores"][:3], strict=True):
            label, score = tag.rsplit(" ", 1)
            assert label == expected["label"]
            assert float(score) == pytest.approx(expected["score"], abs=0.0011)


def test_an_example_names_the_broken_image(
    example: list[str | Path], triton_gateway_url: str, triton_arguments: dict[str, str], photos: list[Path]
):
    url = f"127.0.0.1:{triton_arguments['triton_grpc_port']}"
    answer = run([*example, url, "scenes", photos[0], Path(__file__)], ROOT)
    assert answer.returncode == 1
    assert "image 2 of 2: image_format_unsupported" in answer.stderr
    assert run(example, ROOT).returncode == 2


def test_the_proto_is_the_protocol_that_triton_speaks():
    """Every field of ours has the number, the type and the name that it has in Triton's own definition."""
    text = re.sub(r"//.*", "", (EXAMPLES / "open_inference.proto").read_text())
    found = dict(fields(text))
    assert len(found) >= 25
    for (message, name), (kind, number) in found.items():
        outer, *inner = message.split(".")
        theirs = service_pb2.DESCRIPTOR.message_types_by_name[outer]
        for part in inner:
            theirs = theirs.nested_types_by_name[part]
        field = theirs.fields_by_name[name]
        assert (field.number, kind.startswith("map") or kind) == (number, is_map(field) or type_name(field)), name


def fields(text: str) -> Iterator[tuple[tuple[str, str], tuple[str, int]]]:
    """(message, field) -> (type, number), by reading the file's braces."""
    path: list[str] = []
    for line in map(str.strip, text.splitlines()):
        if opened := re.fullmatch(r"(message|service|oneof|rpc) (\w+).*\{", line):
            path.append(opened[2] if opened[1] == "message" else "")
        elif line == "}":
            path.pop()
        elif found := re.fullmatch(r"(?:repeated )?(map<.*>|\w+) (\w+) = (\d+);", line):
            yield (".".join(filter(None, path)), found[2]), (found[1], int(found[3]))


def is_map(field) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def type_name(field) -> str:
    names = {3: "int64", 8: "bool", 9: "string", 12: "bytes", 13: "uint32", 4: "uint64", 1: "double", 2: "float"}
    return field.message_type.name if field.message_type is not None else names[field.type]
