"""The tagger that all serve, and the scores that all must give."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort

from benchmarks.peers.environments import NotMeasured
from benchmarks.peers.protocols import Protocol, Scores
from export.publish import publish, staging
from labelwise.image import load_pixels
from labelwise.precision import AUTO, MAX_LOSS
from labelwise.repository import Repository, TaggerVersion
from serving.precision import Chooser

ROOT = Path(__file__).parent.parent.parent
PHOTOS = sorted((ROOT / "tests/assets/photos").glob("*.jpg"))


@dataclass(frozen=True)
class Subject:
    """A tagger, a repository that holds nothing else, and the expected scores [n, labels] of PHOTOS."""

    tagger: TaggerVersion
    repository: Path
    expected: Scores

    @property
    def environment(self) -> dict[str, str]:
        """Returns the variables that the servers of the peers read."""
        name, version = self.tagger.key
        return {
            "BENCH_CONTRACT": str(self.repository / name / str(version) / "tagger.json"),
            "BENCH_WEIGHTS": str(self.tagger.weights),
            "BENCH_REPOSITORY": str(self.repository),
        }

    def requests(self, protocol: Protocol) -> list[bytes]:
        """Returns a request for each of PHOTOS."""
        return [protocol.request(self.tagger.spec.name, photo.read_bytes()) for photo in PHOTOS]


def read_subject(name: str, folder: Path, any_precision: bool) -> Subject:
    """Returns the newest version of a bundled tagger, published alone in `folder`. Raises NotMeasured.

    It has its fp32 graph only, or all of them; then the scores are those of the graph that labelwise chooses here.
    """
    versions = Repository.open(ROOT / "model_repository").taggers.get(name)
    if not versions:
        raise NotMeasured(f"there is no tagger {name}")
    tagger = versions[max(versions)]
    graphs = tagger.spec.graphs if any_precision else tagger.spec.graphs[:1]
    repository = folder / f"{name}_{len(graphs)}"
    with staging(repository) as stage:
        for graph in graphs:
            shutil.copyfile(tagger.weights.with_name(graph.file), stage / graph.file)
        publish(repository, stage, tagger.spec.model_copy(update={"graphs": graphs}), "onnxruntime")
    tagger, _ = Chooser(AUTO, MAX_LOSS).choose(Repository.open(repository).taggers[name][tagger.spec.version])
    return Subject(tagger, repository, _score(tagger))


def _score(tagger: TaggerVersion) -> Scores:
    image, name = tagger.spec.image, tagger.spec.input.name
    session = ort.InferenceSession(tagger.weights, providers=["CPUExecutionProvider"])
    pixels = [
        load_pixels(photo.read_bytes(), image.height, image.width, image.resize, image.interpolation)
        for photo in PHOTOS
    ]
    return np.concatenate([session.run(["scores"], {name: one[np.newaxis]})[0] for one in pixels]).astype(float)
