"""Publishing is all or nothing for readers of the repository, at whichever step it is killed."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from export.publish import check_compatible, next_version, publish, staging
from export.tensorrt import Plan
from labelwise.errors import RepositoryError
from labelwise.image import load_pixels
from labelwise.repository import WEIGHTS_FILE, Repository, version_folders
from labelwise.spec import LAST_VERSION, ImageSpec, TaggerSpec
from tests.contracts import with_graph
from tests.polling import PATIENCE

ROOT = Path(__file__).parent.parent.parent


def add(
    repository: Path, spec: TaggerSpec, version: int = 1, keep: int | None = None, plans: tuple[str, ...] = ()
) -> None:
    with staging(repository) as stage:
        weights = stage / WEIGHTS_FILE
        weights.write_bytes(f"graph {version}".encode())
        spec = with_graph(spec, weights, version=version)
        built = [Plan(stage / f"model.trt10.3.0-sm{sm}.plan", f"{sm[0]}.{sm[1]}") for sm in plans]
        for plan in built:
            plan.file.write_bytes(b"engine")
        publish(repository, stage, spec, "onnxruntime", plans=built, keep=keep)


def files(repository: Path) -> set[str]:
    return {str(path.relative_to(repository)) for path in repository.rglob("*") if path.is_file()}


def layout(version: int) -> set[str]:
    return {
        f"pets/{version}/tagger.json",
        f"pets_decode/{version}/model.py",
        *(f"pets_decode/{version}/labelwise_image/{file.name}" for file in (ROOT / "labelwise/image").glob("*.py")),
        f"pets_model/{version}/model.onnx",
        f"pets_model/{version}/model.py",
        f"pets_model/{version}/labelwise_precision.py",
        f"pets_model/{version}/tagger.json",
    }


SHARED = {
    *(f"{part}/config.pbtxt" for part in ("pets", "pets_decode", "pets_model")),
    *(f"{part}/{name}" for part in ("pets", "pets_model") for name in ("labels.txt", "tagger.json")),
    *(f"pets_model/configs/{name}.pbtxt" for name in ("cpu", "cuda", "tensorrt", "python")),
}


def test_there_is_a_last_version(tmp_path: Path):
    (tmp_path / "pets" / str(LAST_VERSION)).mkdir(parents=True)
    with pytest.raises(RepositoryError, match="has the highest possible version"):
        next_version(tmp_path, "pets")


def test_versions_lie_side_by_side_and_nothing_else_does(spec: TaggerSpec, tmp_path: Path):
    repository = tmp_path / "new" / "repository"
    assert next_version(repository, "pets") == 1
    add(repository, spec, 1)
    assert files(repository) == SHARED | layout(1)
    assert next_version(repository, "pets") == 2
    add(repository, spec, 2)
    assert files(repository) == SHARED | layout(1) | layout(2)
    assert {path.name for path in repository.iterdir()} == {"pets", "pets_decode", "pets_model"}
    versions = Repository.open(repository).taggers["pets"]
    assert [version.weights.read_text() for version in versions.values()] == ["graph 1", "graph 2"]
    assert TaggerSpec.read(repository / "pets").version == TaggerSpec.read(repository / "pets_model").version == 2
    assert (repository / "pets/labels.txt").read_text(encoding="utf-8").splitlines() == list(spec.labels)
    for path in repository.rglob("*"):
        assert path.stat().st_mode & 0o044 == 0o044, path  # Triton often runs as another user


def test_the_decoder_in_the_repository_is_the_projects_own(spec: TaggerSpec, tmp_path: Path):
    add(tmp_path, spec)
    photo = next((ROOT / "tests/assets/photos").glob("*.jpg"))
    program = """
import sys
from labelwise_image import load_pixels
sys.stdout.buffer.write(load_pixels(open(sys.argv[1], "rb").read(), 32, 48).tobytes())
print(*(name for name in sys.modules if name == "labelwise" or name.startswith("labelwise.")), end="", file=sys.stderr)
"""
    command = [sys.executable, "-c", program, str(photo)]
    run = subprocess.run(command, cwd=tmp_path / "pets_decode/1", capture_output=True, check=True)
    assert run.stdout == load_pixels(photo.read_bytes(), 32, 48).tobytes()
    assert run.stderr == b""  # it needs nothing of the project but its own copy


def test_a_version_is_not_overwritten(spec: TaggerSpec, tmp_path: Path):
    add(tmp_path, spec)
    before = {name: (tmp_path / name).read_bytes() for name in files(tmp_path)}
    with pytest.raises(RepositoryError, match="already has a version 1"):
        add(tmp_path, spec)
    assert {name: (tmp_path / name).read_bytes() for name in files(tmp_path)} == before


@pytest.mark.parametrize(
    "change",
    [
        {"labels": ("cat", "großer Hund", "lake")},
        {"labels": ("großer Hund", "cat", "sea")},
        {"image": ImageSpec(height=32, width=48, resize="crop")},  # versions share one decoder's config.pbtxt
        {"max_batch": 64},  # and one model's
    ],
)
def test_versions_that_cannot_share_a_config_are_refused(change: dict[str, object], spec: TaggerSpec, tmp_path: Path):
    add(tmp_path, spec)
    check_compatible(tmp_path, "pets", 2, spec.changed(thresholds=(0.1, 0.2, 0.3)))
    check_compatible(tmp_path, "cars", 1, spec.changed(**change))
    with pytest.raises(RepositoryError, match="versions must share"):
        check_compatible(tmp_path, "pets", 2, spec.changed(**change))


def test_triton_loads_no_version_with_other_labels(spec: TaggerSpec, tmp_path: Path):
    def versions_of(model: str, name: str = "config.pbtxt") -> str:
        text = (tmp_path / model / name).read_text()
        return text[text.index("version_policy") :].split("}")[0]

    add(tmp_path, spec, 1)
    assert "latest" in versions_of("pets_model")
    outputs = tuple(output.model_copy(update={"shape": (2, *output.shape[1:])}) for output in spec.outputs)
    add(tmp_path, spec.changed(labels=spec.labels[:2], thresholds=spec.thresholds[:2], outputs=outputs), 2)
    for name in ("config.pbtxt", "configs/cpu.pbtxt", "configs/python.pbtxt"):
        assert "versions: 2" in versions_of("pets_model", name)
    assert "latest" in versions_of("pets_decode")


@pytest.mark.parametrize("place", ["file", "file/repository", "/proc/repository"])
def test_an_unwritable_repository_is_named(place: str, tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(RepositoryError, match="cannot be written"), staging(tmp_path / place):
        pass


def versions(repository: Path) -> dict[str, list[int]]:
    return {part: list(version_folders(repository / part)) for part in ("pets", "pets_decode", "pets_model")}


def test_old_versions_go_only_when_the_new_one_is_there(spec: TaggerSpec, tmp_path: Path):
    for version in (1, 2, 3):
        add(tmp_path, spec, version)
    add(tmp_path, spec, 4, keep=2)
    assert set(map(tuple, versions(tmp_path).values())) == {(3, 4)}
    assert files(tmp_path) == SHARED | layout(3) | layout(4)
    add(tmp_path, spec, 2, keep=1)  # a version that was chosen stays, and so does the newest
    assert set(map(tuple, versions(tmp_path).values())) == {(2, 4)}
    with pytest.raises(RepositoryError, match="the new one stays in any case"):
        add(tmp_path, spec, 5, keep=0)
    assert set(map(tuple, versions(tmp_path).values())) == {(2, 4)}


def test_the_shared_files_describe_the_newest_version(spec: TaggerSpec, tmp_path: Path):
    add(tmp_path, spec, 5)
    before = {name: (tmp_path / name).read_bytes() for name in SHARED}
    add(tmp_path, spec, 3)
    assert {name: (tmp_path / name).read_bytes() for name in SHARED} == before
    assert [version.weights.read_text() for version in Repository.open(tmp_path).taggers["pets"].values()] == [
        "graph 3",
        "graph 5",
    ]


def test_plans_lie_beside_their_graph_and_leave_with_it(spec: TaggerSpec, tmp_path: Path):
    add(tmp_path, spec, 1, plans=("90", "86"))
    built = {f"pets_model/1/model.trt10.3.0-sm{sm}.plan" for sm in ("90", "86")}
    assert files(tmp_path) == SHARED | layout(1) | built | {"pets_model/configs/plan.pbtxt"}
    add(tmp_path, spec, 2)  # has none, so Triton must not be told of version 1's
    assert files(tmp_path) == SHARED | layout(1) | layout(2) | built


_KILLED = """
import os, shutil, signal, sys
from pathlib import Path
from labelwise.repository import WEIGHTS_FILE, version_folders
from tests.contracts import with_graph
from labelwise.spec import TaggerSpec
from export.publish import publish, staging

def die_at(step):
    left = iter(range(step))
    for name in ("rename", "replace", "unlink", "rmdir", "mkdir"):  # all that a reader can see of a publication
        def counted(*arguments, call=getattr(os, name), **settings):
            if next(left, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **settings)
        setattr(os, name, counted)
    os.fsync = lambda descriptor: None  # only the process dies, so nothing has to reach the disk

def add(repository, spec, version):
    with staging(repository) as stage:
        weights = stage / WEIGHTS_FILE
        weights.write_bytes(f"graph {version}".encode())
        spec = with_graph(spec, weights, version=version)
        publish(repository, stage, spec, "onnxruntime", keep=2)

folder, spec = Path(sys.argv[1]), TaggerSpec.read(Path(sys.argv[2]))
add(folder / "elsewhere", spec, 1)  # loads what the children then need not load
for step in range(200):
    repository = shutil.copytree(folder / "before", folder / f"step-{step:03}", copy_function=os.link)
    child = os.fork()
    if child == 0:
        die_at(step)
        add(repository, spec, int(sys.argv[3]))
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        sys.exit(0)
sys.exit("it never ended by itself")
"""


@pytest.mark.parametrize(
    "published",
    [{"pets": [1, 2]}, {"cars": [1]}],
    ids=["third-in-place-of-the-first", "first-beside-another"],
)
def test_killed_at_any_step_it_leaves_whole_versions(published: dict[str, list[int]], spec: TaggerSpec, tmp_path: Path):
    for name, numbers in published.items():
        for number in numbers:
            add(tmp_path / "before", spec.model_copy(update={"name": name}), number)
    new = 1 + max(published.get("pets", [0]))
    spec.write(tmp_path)
    command = [sys.executable, "-c", _KILLED, str(tmp_path), str(tmp_path), str(new)]
    subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)
    steps = sorted(tmp_path.glob("step-*"))
    assert len(steps) > 20
    seen = [whole(repository, published) for repository in steps]
    kept = [*published.get("pets", []), new][-2:]
    assert seen[-1] == kept  # the last was not killed
    changes = [numbers for numbers, before in zip(seen, [None, *seen], strict=False) if numbers != before]
    expected = [published.get("pets", []), [*published.get("pets", []), new], kept]
    assert changes == [
        numbers for numbers, before in zip(expected, [None, *expected], strict=False) if numbers != before
    ]
    for repository in steps[:: len(steps) // 6]:  # and the next export mends everything
        last = next_version(repository, "pets")
        add(repository, spec, last, keep=2)
        assert whole(repository, published)[-1] == last
        assert len(set(map(tuple, versions(repository).values()))) == 1
        assert not list(repository.glob(".labelwise-staging-*"))


def whole(repository: Path, published: dict[str, list[int]]) -> list[int]:
    """The versions of pets that a reader sees, each complete; another tagger's are all there."""
    taggers = Repository.open(repository).taggers
    for name in published.keys() - {"pets"}:
        assert list(taggers[name]) == published[name]
    for number, version in taggers.get("pets", {}).items():
        assert version.weights.read_text() == f"graph {number}"
    if taggers.get("pets"):  # and the one that Triton's ensemble runs is there
        pinned = set(re.findall(r"versions?: (\d+)", (repository / "pets/config.pbtxt").read_text("utf-8")))
        assert len(pinned) == 1
        assert all((repository / part / number).is_dir() for part in versions(repository) for number in pinned)
    return list(taggers.get("pets", {}))


_RACE = (
    _KILLED.partition("def die_at")[0]
    + """
from export.publish import next_version
folder, spec = Path(sys.argv[1]), TaggerSpec.read(Path(sys.argv[2]))
other = os.fork()
mark = "a" if other else "b"
for _ in range(5):
    with staging(folder) as stage:
        number = next_version(folder, spec.name)
        weights = stage / WEIGHTS_FILE
        weights.write_text(f"graph {number} of {mark}")
        mine = with_graph(spec, weights, version=number, producer=mark)
        publish(folder, stage, mine, "onnxruntime")
sys.exit(os.waitpid(other, 0)[1] if other else 0)
"""
)


def test_two_exports_at_once_take_turns(spec: TaggerSpec, tmp_path: Path):
    spec.write(tmp_path)
    repository = tmp_path / "für zwei" / "repository"
    command = [sys.executable, "-c", _RACE, str(repository), str(tmp_path)]
    subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True, timeout=PATIENCE)
    found = Repository.open(repository).taggers["pets"]
    assert list(found) == list(range(1, 11))
    for number, version in found.items():
        assert version.weights.read_text() == f"graph {number} of {version.spec.producer}"
    assert sorted(version.spec.producer for version in found.values()) == [*"aaaaabbbbb"]
    newest = found[10].spec
    assert TaggerSpec.read(repository / "pets") == TaggerSpec.read(repository / "pets_model") == newest


def test_reading_goes_on_while_versions_come_and_go(spec: TaggerSpec, tmp_path: Path):
    repository, failures = tmp_path / "repository", []
    add(repository, spec, 1)
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            try:
                assert Repository.open(repository).taggers["pets"]
            except Exception as error:
                failures.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for version in range(2, 12):
        add(repository, spec, version, keep=1)
    done.set()
    reader.join()
    assert not failures
    assert list(Repository.open(repository).taggers["pets"]) == [11]


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A separate file system in memory; skips if this process may not mount one."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if sys.platform != "linux" or subprocess.run(command, stderr=subprocess.DEVNULL).returncode:
        pytest.skip("a file system can be mounted by root only")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("published", [True, False])
@pytest.mark.parametrize("size", [600_000, 100_000], ids=["for-the-graph", "for-the-rest"])
def test_no_room_on_the_disk_is_one_line_and_leaves_nothing(
    size: int, published: bool, spec: TaggerSpec, tmp_path: Path
):
    with mounted(tmp_path / "small", "size=512k") as disk:
        repository = disk / "new" / "repository"
        if published:
            add(repository, spec, 1)
        before = {name: (repository / name).read_bytes() for name in files(repository)}
        with pytest.raises(RepositoryError) as caught:
            fill(disk, repository, spec, size)
        (disk / "filler").unlink(missing_ok=True)
        assert str(caught.value) == f"Not published: {repository} cannot be written: No space left on device."
        assert {name: (repository / name).read_bytes() for name in files(repository)} == before
        assert list(disk.iterdir()) == ([disk / "new"] if published else [])


def fill(disk: Path, repository: Path, spec: TaggerSpec, size: int) -> None:
    """Publish a graph of `size` bytes, with no more room than for a few of the small files beside it."""
    with staging(repository) as stage:
        weights = stage / WEIGHTS_FILE
        weights.write_bytes(bytes(size))
        (disk / "filler").write_bytes(bytes(512 * 1024 - used(disk) - 10 * 4096))
        new = with_graph(spec, weights, version=2)
        publish(repository, stage, new, "onnxruntime")


def used(disk: Path) -> int:
    state = os.statvfs(disk)
    return (state.f_blocks - state.f_bfree) * state.f_frsize


def test_a_read_only_target_is_one_line(spec: TaggerSpec, tmp_path: Path):
    with mounted(tmp_path / "disk", "size=4m") as disk:
        add(disk / "repository", spec, 1)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        for place in (disk / "repository", disk / "other"):
            with pytest.raises(RepositoryError, match="cannot be written: Read-only file system"), staging(place):
                pass
        assert list(Repository.open(disk / "repository").taggers["pets"]) == [1]


def test_a_killed_export_leaves_neither_a_lock_nor_its_scraps_for_long(spec: TaggerSpec, tmp_path: Path):
    code = """
import os, signal, sys
from pathlib import Path
from export.publish import staging
with staging(Path(sys.argv[1])) as stage:
    (stage / "model.onnx").write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, env=environment)
    assert killed.returncode == -signal.SIGKILL
    assert [name for name in files(tmp_path) if name.startswith(".labelwise-staging-")]
    (tmp_path / ".staging-of-somebody-else").mkdir()
    (tmp_path / ".staging-of-somebody-else/precious").touch()
    add(tmp_path, spec)
    assert files(tmp_path) == SHARED | layout(1) | {".staging-of-somebody-else/precious"}
