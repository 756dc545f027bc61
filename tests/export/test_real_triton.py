"""The exported repository in a real Triton, auto-completion off: every setting at once, and versions that change."""

import re
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from tritonclient import grpc
from tritonclient.utils import InferenceServerException

from export.publish import publish, staging
from export.triton_config import ServingOptions
from labelwise.errors import LabelwiseError
from labelwise.image import load_pixels
from labelwise.repository import WEIGHTS_FILE
from labelwise.spec import TaggerSpec
from serving.local_triton.install import find_triton
from tests.conftest import free_port
from tests.contracts import with_graph
from tests.polling import end, end_later, until
from tests.several_graphs import QUICK, SIZE, SLOW, publish_graphs

OPTIONS = ServingOptions(instances=2, response_cache=True, deadline_s=5, queue_size=64, queue_delay_us=200)


def add(repository: Path, graph: Path, spec: TaggerSpec, version: int, shift: float) -> TaggerSpec:
    """Publish the real graph as `version`, its scores shifted so that versions can be told apart."""
    model = onnx.load(graph)
    (bias,) = (part for part in model.graph.initializer if part.name.endswith("bias") and list(part.dims) == [3])
    bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + np.float32(shift), bias.name))
    with staging(repository) as stage:
        weights = stage / WEIGHTS_FILE
        onnx.save_model(model, weights)
        spec = with_graph(spec, weights, version=version)
        publish(repository, stage, spec, "onnxruntime", OPTIONS, keep=2)
    return spec


@contextmanager
def triton(
    repository: Path, folder: Path, *arguments: str, port: int | None = None
) -> Iterator[tuple[grpc.InferenceServerClient, int, int]]:
    """A Triton whose models are loaded on demand; yields a client, its port and that of its metrics.

    A chosen `port` is free again at the end.
    """
    try:
        install = find_triton()
    except LabelwiseError as error:
        pytest.skip(str(error))
    (folder / "backends").mkdir(parents=True)
    # The Python backend starts its process through a shell, without quotes, and reads paths as ASCII.
    (folder / "repository").symlink_to(repository)
    is_port_reused = port is not None
    port, metrics = port or free_port(), free_port()
    command = [
        str(install.binary),
        f"--model-repository={folder / 'repository'}",
        f"--backend-directory={install.lay_out_backends(folder / 'backends')}",
        f"--cache-directory={install.backends.parent / 'caches'}",
        *("--model-control-mode=explicit", "--disable-auto-complete-config", "--allow-http=false"),
        *(f"--grpc-port={port}", f"--metrics-port={metrics}", "--model-config-name=python"),
        "--backend-config=python,shm-default-byte-size=4194304",
        *arguments,
    ]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, env=install.environment(), stdout=log, stderr=log)
    client = grpc.InferenceServerClient(f"127.0.0.1:{port}")
    try:
        until(lambda: process.poll() is not None or live(client))
        assert process.poll() is None, (folder / "log").read_text()
        yield client, port, metrics
    finally:
        client.close()
        (end if is_port_reused else end_later)(process)


def live(client: grpc.InferenceServerClient) -> bool:
    try:
        return bool(client.is_server_live())
    except InferenceServerException:
        return False


def encoded(photo: Path) -> grpc.InferInput:
    tensor = grpc.InferInput("IMAGE", [1, 1], "BYTES")
    return tensor.set_data_from_numpy(np.array([[photo.read_bytes()]], dtype=np.object_))


def decoded(pixels: np.ndarray) -> grpc.InferInput:
    return grpc.InferInput("image", list(pixels.shape), "UINT8").set_data_from_numpy(pixels)


def run_graph(repository: Path, version: int, pixels: np.ndarray) -> np.ndarray:
    file = repository / "pets_model" / str(version) / WEIGHTS_FILE
    return ort.InferenceSession(file, providers=["CPUExecutionProvider"]).run(["scores"], {"image": pixels})[0]


def scores(client: grpc.InferenceServerClient, model: str, tensor: grpc.InferInput, version: str = "") -> np.ndarray:
    return client.infer(model, [tensor], version, outputs=[grpc.InferRequestedOutput("scores")]).as_numpy("scores")


def best(client: grpc.InferenceServerClient, model: str, tensor: grpc.InferInput, count: int) -> list[str]:
    """The labels that Triton's own extension for classification names."""
    asked = grpc.InferRequestedOutput("scores", class_count=count)
    (entries,) = client.infer(model, [tensor], outputs=[asked]).as_numpy("scores")
    return [entry.decode().split(":", 2)[2] for entry in entries]


def hits(port: int) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        found = re.search(r'nv_cache_num_hits_per_model{model="pets_model",version="1"} (\d+)', answer.read().decode())
    assert found
    return int(found[1])


def test_every_setting_loads_and_each_version_answers_for_itself(
    graph: Path, spec: TaggerSpec, photos: list[Path], tmp_path: Path
):
    repository = tmp_path / "repository für Bilder"
    add(repository, graph, spec, 1, shift=0)
    pixels = load_pixels(photos[0].read_bytes(), 32, 48)[None]
    photo, image = encoded(photos[0]), decoded(pixels)
    with triton(repository, tmp_path / "triton", "--cache-config=local,size=1048576") as (client, _, metrics):
        client.load_model("pets")
        config = client.get_model_config("pets_model").config
        assert (config.instance_group[0].count, config.response_cache.enable) == (2, True)
        assert [warmup.batch_size for warmup in config.model_warmup] == [1, 5]
        first = run_graph(repository, 1, pixels)
        for version in ("", "1"):
            np.testing.assert_allclose(scores(client, "pets", photo, version), first, atol=1e-5)
        assert hits(metrics) == 1
        # Triton's cache does not look at which outputs are asked for, but an ensemble asks its steps for all.
        rest = [grpc.InferRequestedOutput(name) for name in ("embeddings", "attention")]
        answer = client.infer("pets", [photo], outputs=rest)
        assert [answer.as_numpy(name).shape for name in ("embeddings", "attention")] == [(1, 3, 8), (1, 3, 4, 6)]
        assert hits(metrics) == 2
        assert best(client, "pets", photo, 2) == [spec.labels[place] for place in first[0].argsort()[::-1][:2]]

        add(repository, graph, spec, 2, shift=1)
        client.load_model("pets")  # also reloads the other two
        second = run_graph(repository, 2, pixels)
        assert np.abs(second - first).max() > 0.1
        for version in ("", "2"):
            np.testing.assert_allclose(scores(client, "pets", photo, version), second, atol=1e-5)
            np.testing.assert_allclose(scores(client, "pets_model", image, version), second, atol=1e-5)
        np.testing.assert_allclose(scores(client, "pets_model", image, "1"), first, atol=1e-5)
        with pytest.raises(InferenceServerException, match="version 1 is not at ready state"):
            scores(client, "pets", photo, "1")

        add(repository, graph, spec, 3, shift=2)  # keep=2 removes version 1 from under the running Triton
        np.testing.assert_allclose(scores(client, "pets", photo), second, atol=1e-5)
        client.load_model("pets")
        np.testing.assert_allclose(scores(client, "pets", photo), run_graph(repository, 3, pixels), atol=1e-5)
        np.testing.assert_allclose(scores(client, "pets_model", image, "2"), second, atol=1e-5)


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Iterator[grpc.InferenceServerClient]:
    """A Triton with three taggers of two graphs; `asked` is as `quick_int8`, with a limit in its configuration."""
    repository = tmp_path_factory.mktemp("several") / "repository"
    publish_graphs(repository, {"fp32": SLOW, "int8": QUICK}, {"int8": -0.004}, "quick_int8")
    publish_graphs(repository, {"fp32": QUICK, "int8": SLOW}, {"int8": -0.004}, "quick_fp32")
    publish_graphs(repository, {"fp32": SLOW, "int8": QUICK}, {"int8": -0.004}, "asked")
    config = repository / "asked_model/configs/python.pbtxt"
    asked = 'parameters { key: "max_loss" value { string_value: "0.3" } }'
    config.write_text(f"{config.read_text('utf-8')}\n{asked}", "utf-8")
    with triton(repository, tmp_path_factory.mktemp("triton")) as (client, _, _):
        yield client


@pytest.mark.parametrize(("name", "score"), [("quick_int8", 0.2), ("quick_fp32", 0.1)])
def test_the_python_backend_runs_the_fastest_graph(several: grpc.InferenceServerClient, name: str, score: float):
    assert first_score(several, name) == pytest.approx(score)


def test_the_python_backend_runs_what_its_configuration_asks_for(several: grpc.InferenceServerClient):
    assert first_score(several, "asked") == pytest.approx(0.1)


def first_score(client: grpc.InferenceServerClient, name: str) -> float:
    """Loads the tagger's model and asks it."""
    client.load_model(f"{name}_model")
    image = decoded(np.zeros((1, SIZE, SIZE, 3), np.uint8))
    return float(scores(client, f"{name}_model", image)[0, 0])
