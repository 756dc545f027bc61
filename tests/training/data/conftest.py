"""Shards of the twenty drawn pictures, in a folder and behind a real HTTP server."""

import threading
from collections.abc import Iterator, Sequence
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from labelwise.spec import ImageSpec
from training.data.decode import Pixels, decode
from training.data.labelled_data import UNKNOWN, LabelledData, LabelledPhotos
from training.data.layouts import read_data
from training.data.shard_writer import write_shards


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder, and remembers what was asked for."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path.strip("/"))
        super().do_GET()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture(scope="package")
def labelled(dataset: Path) -> LabelledData:
    """The drawn pictures, one of them with an unknown label."""
    data = read_data(dataset)
    targets = data.train.targets.copy()
    targets[3, 1] = UNKNOWN
    return LabelledData(data.labels, LabelledPhotos(data.train.files, targets), data.val)


@pytest.fixture(scope="package")
def shards(labelled: LabelledData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some ten shards, as each may hold only about 6 kB."""
    folder = tmp_path_factory.mktemp("shards")
    write_shards(labelled, folder, 6_000)
    return folder


@pytest.fixture
def server(shards: Path) -> Iterator[tuple[str, list[str]]]:
    """The address of the shards, and the list of files it was asked for."""
    handler = type("Remembering", (Handler,), {"asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(shards))) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}", handler.asked
        http.shutdown()
        thread.join()


def decoded(files: Sequence[Path], image: ImageSpec, scale: float = 1.0) -> Pixels:
    """Photos as serving decodes them, at `scale` times the model's size: uint8 [n, h, w, 3]."""
    return np.stack([decode(file.read_bytes(), image, scale) for file in files])


def by_name(labels: tuple[str, ...], names: list[str], targets: np.ndarray) -> dict[str, dict[str, float]]:
    """{photo: {label: target}}."""
    pairs = zip(names, targets.tolist(), strict=True)
    return {name: dict(zip(labels, values, strict=True)) for name, values in pairs}
