"""`labelwise search`: the photos of a table whose label looks like that of one photo."""

import difflib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labelwise.cores import usable_cores
from labelwise.errors import LabelwiseError
from labelwise.label_names import printable
from labelwise.repository import Repository, TaggerVersion, published_names
from labelwise.spec import TaggerSpec
from labelwise.tagging import rounded
from serving.bulk.rows import weights_of
from serving.bulk.tag_errors import UsageError
from serving.client.photos import BadPhoto, decoded, to_bytes
from serving.embeddings import embeddings_path
from serving.embeddings.embeddings_file import Embedder, Embeddings, NotEmbeddings
from serving.embeddings.nearest import Match, find_nearest
from serving.onnx_session import load_session, run_session


@dataclass(frozen=True, kw_only=True)
class Search:
    """What to look for: photos with `label`, all of `tags` and none of `not_tags`, whose label looks like `like`'s."""

    table: str
    like: str
    label: str
    tags: Sequence[str] = ()
    not_tags: Sequence[str] = ()
    count: int = 10
    repository: Path = Path("model_repository")


@dataclass(frozen=True)
class Found:
    """The matches, nearest first, and the score that the label has for the photo that they are like."""

    matches: list[Match]
    score: float
    threshold: float

    @property
    def is_tag(self) -> bool:
        return self.score >= self.threshold


def search_photos(search: Search) -> Found:
    """Embed the photo with the model of the table, and find the nearest. Raises UsageError and LabelwiseError."""
    with _opened(search.table) as embeddings:
        labels = embeddings.embedder.labels
        place = _place(search.label, labels)
        tags, not_tags = ([_place(tag, labels) for tag in names] for names in (search.tags, search.not_tags))
        version = _tagger_of(embeddings.embedder, search)
        scores, vectors = _embedded(search.like, version)
        matches = find_nearest(  # one more, because the photo itself may be in the table
            embeddings, place, vectors[place], search.count + 1, tags, not_tags, usable_cores()
        )
    others = [match for match in matches if not _is_same(match.path, search.like)]
    return Found(others[: search.count], rounded(float(scores[place])), version.spec.thresholds[place])


def _opened(table: str) -> Embeddings:
    file, again = embeddings_path(Path(table)), f"labelwise tag PHOTOS --out {table} --embeddings"
    if not os.path.exists(table):  # noqa: PTH110 (Path would drop the slash of a folder)
        raise UsageError(f"There is no table {table}: `{again}` writes one.")
    try:
        return Embeddings(file)
    except FileNotFoundError:
        raise LabelwiseError(f"{table} has no embeddings beside it: `{again}` adds them.") from None
    except (NotEmbeddings, OSError) as error:
        raise LabelwiseError(
            f"{file} cannot be read as embeddings: remove it, and `{again}` makes it again."
        ) from error


def _place(label: str, labels: Sequence[str]) -> int:
    if label in labels:
        return labels.index(label)
    near = difflib.get_close_matches(label.lower(), [name.lower() for name in labels], n=3)
    named = [name for wanted in near for name in labels if name.lower() == wanted]
    some = " or ".join(map(repr, named)) if named else ", ".join(map(printable, labels[:5])) + ", …"
    raise UsageError(f"The model of this table has no label {label!r}. {'Did you mean' if named else 'It has'} {some}?")


def _tagger_of(embedder: Embedder, search: Search) -> TaggerVersion:
    """The version and the graph that made the embeddings: those of others cannot be compared with them."""
    made_by = f"{search.table} was embedded by {embedder.model} version {embedder.version}"
    again = f"`labelwise tag PHOTOS --out {search.table} --embeddings --force` embeds all again"
    if embedder.model not in published_names(search.repository):
        raise LabelwiseError(f"{made_by}, which {search.repository} lacks: name its --repository, or {again}.")
    versions = Repository.open(search.repository, skip_broken=True, only=embedder.model).taggers[embedder.model]
    version = versions.get(embedder.version)
    if version is None:
        there = ", ".join(map(str, versions))
        raise LabelwiseError(f"{made_by}, and {search.repository} has version {there}: {again}.")
    graphs = [version.with_graph(graph) for graph in version.spec.graphs] or [version]
    for served in graphs:
        if weights_of(served.spec) == embedder.weights and served.spec.labels == embedder.labels:
            return served
    raise LabelwiseError(f"{made_by} with other weights than {search.repository} has: {again}.")


def _embedded(photo: str, version: TaggerVersion) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The photo's scores [l] and embeddings [l, p]. Raises LabelwiseError if it cannot be read."""
    spec: TaggerSpec = version.spec
    try:
        pixels = decoded(to_bytes(photo, small=False), spec.image).pixels
    except BadPhoto as bad:
        detail = bad.error.detail if photo in bad.error.detail else f"{photo}: {bad.error.detail}"
        raise LabelwiseError(f"--like {detail} Name another photo.") from bad
    outputs = run_session(load_session(version, usable_cores()), spec, pixels[None], ("scores", "embeddings"))
    return outputs["scores"][0], outputs["embeddings"][0]


def _is_same(path: str, photo: str) -> bool:
    return os.path.realpath(path) == os.path.realpath(photo)
