"""What a Triton of our own is shown of a repository, without a Triton."""

import shutil
from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from labelwise.errors import RepositoryError
from serving.local_triton.view import CONFIG_NAME, TritonView
from tests.serving.publishing import publish_next

NOTHING: frozenset[int] = frozenset()


@pytest.fixture
def source(repository: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(repository, tmp_path / "source"))


@pytest.fixture
def view(source: Path, tmp_path: Path) -> TritonView:
    (tmp_path / "view").mkdir()
    view = TritonView(source, tmp_path / "view", "python")
    show(view, {1}, {1})
    return view


def show(view: TritonView, versions: set[int], whole: set[int]) -> None:
    view.build("scenes", frozenset(versions), whole, NOTHING)
    view.exchange("scenes")


def config(view: TritonView, model: str) -> model_config_pb2.ModelConfig:
    file = view.repository / model / "configs" / f"{CONFIG_NAME}.pbtxt"
    return text_format.Parse(file.read_text(), model_config_pb2.ModelConfig())


def folders(view: TritonView) -> list[str]:
    return sorted(path.name for path in (view.repository / "scenes_model").glob("[0-9]*"))


def test_what_an_export_takes_out_stays(view: TritonView, source: Path) -> None:
    publish_next(source, keep=1)
    show(view, {1, 2}, {2})
    assert folders(view) == ["1", "2"]
    assert (view.repository / "scenes_model/1/model.onnx").is_file()
    assert view.versions("scenes") == {1, 2}
    assert config(view, "scenes").version_policy.specific.versions == [2]
    assert config(view, "scenes_model").version_policy.HasField("all")


def test_a_second_exchange_takes_a_state_back(view: TritonView, source: Path) -> None:
    publish_next(source)
    before = config(view, "scenes_model")
    show(view, {1, 2}, {1, 2})
    view.exchange("scenes")
    view.discard("scenes")
    assert (folders(view), view.versions("scenes")) == (["1"], {1})
    assert config(view, "scenes_model") == before
    view.exchange("scenes")
    assert (folders(view), view.names) == ([], ())


def test_a_broken_newest_version_leaves_the_rest_and_their_policy_alone(view: TritonView, source: Path) -> None:
    """The files beside the versions describe the broken one by now."""
    for _ in range(2):
        publish_next(source)
    whole = {1, 2, 3}
    assert view.wanted("scenes", whole) == {2, 3}
    show(view, {2, 3}, whole)
    publish_next(source, broken=True)
    assert view.wanted("scenes", whole) == {2, 3}
    assert not view.is_outdated("scenes", whole)
    show(view, {2}, {1, 2})  # should 3 turn out to be broken, too
    ensemble = config(view, "scenes")
    assert ensemble.version_policy.specific.versions == [2]
    assert {step.model_version for step in ensemble.ensemble_scheduling.step} == {2}


@pytest.mark.parametrize("missing", ["scenes_model/1/model.py", "scenes_decode/1/model.py", "scenes/config.pbtxt"])
def test_what_a_version_cannot_do_without(view: TritonView, source: Path, missing: str) -> None:
    view.require_programs("scenes", 1)
    (source / missing).unlink()
    with pytest.raises(RepositoryError, match=missing):
        view.require_programs("scenes", 1)


def test_only_the_chosen_graph_is_shown(source: Path, view: TritonView) -> None:
    version = source / "scenes_model/1"
    (version / "model.int8.onnx").write_bytes(b"8 bits")
    view.run(("scenes", 1), "model.int8.onnx")
    view.build("scenes", frozenset({1}), {1}, frozenset({1}))
    view.exchange("scenes")
    shown = view.repository / "scenes_model/1"
    assert [(file.name, file.read_bytes()) for file in shown.glob("*.onnx")] == [("model.onnx", b"8 bits")]
    assert (version / "model.onnx").stat().st_size > 6  # the repository itself stays as it was


def test_a_version_with_other_labels_can_be_taken_back(view: TritonView, source: Path) -> None:
    """Its configuration is for it alone, and fits no version without it."""
    publish_next(source)
    for file in ("config.pbtxt", "configs/python.pbtxt"):
        taught = text_format.Parse((source / "scenes_model" / file).read_text(), model_config_pb2.ModelConfig())
        taught.version_policy.specific.versions[:] = [2]
        taught.output[0].dims[:] = [6]
        (source / "scenes_model" / file).write_text(text_format.MessageToString(taught))
    assert view.wanted("scenes", {1, 2}) == {2}
    show(view, {1, 2}, {1, 2})
    assert config(view, "scenes_model").version_policy.specific.versions == [2]
    assert view.wanted("scenes", {1}) == {1}
    show(view, {1}, {1})
    assert config(view, "scenes_model").version_policy.specific.versions == [1]
    assert config(view, "scenes_model").output[0].dims == [5]
    assert (view.repository / "scenes_model/labels.txt").read_text().splitlines()[0] == "desert"
