"""The search finds exactly the nearest embeddings, over many batches and with filters."""

from collections.abc import Iterator

import numpy as np
import pytest

from serving.embeddings.embeddings_file import Embedder, Embeddings, LabelRows, write_embeddings

pytest.importorskip("numkong", reason="it needs the extra search")

from serving.embeddings.nearest import find_nearest

CHANCE = np.random.default_rng(0)
VECTORS = CHANCE.standard_normal((500, 16)).astype(np.float16)
HAS = CHANCE.random((500, 3)) < (1.0, 0.3, 0.1)  # which of the three tags each photo has
QUERY = CHANCE.standard_normal(16).astype(np.float32)
SIMILARITIES = VECTORS.astype(np.float64) @ QUERY.astype(np.float16).astype(np.float64)


@pytest.fixture(scope="module")
def embeddings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embeddings]:
    file = tmp_path_factory.mktemp("embeddings") / "e.arrow"
    parts = [range(at, min(at + 60, 500)) for at in range(0, 500, 60)]
    every = [
        LabelRows(
            0, [f"{at}" for at in part], HAS[part, 0] * 1.0, [np.flatnonzero(HAS[at]) for at in part], VECTORS[part]
        )  # type: ignore[misc]
        for part in parts
    ]
    with file.open("wb") as stream:
        write_embeddings(stream, Embedder("m", 1, "0", ("sea", "sunset", "person"), 16), every)
    with Embeddings(file) as opened:
        yield opened


@pytest.mark.parametrize(("tags", "not_tags"), [((), ()), ((1,), ()), ((), (1,)), ((1,), (2,)), ((1, 2), ())])
@pytest.mark.parametrize("count", [1, 10, 1000])
def test_it_is_exact(embeddings: Embeddings, tags: tuple[int, ...], not_tags: tuple[int, ...], count: int):
    wanted = HAS[:, list(tags)].all(axis=1) & ~HAS[:, list(not_tags)].any(axis=1)
    nearest = [at for at in np.argsort(-SIMILARITIES) if wanted[at]][:count]
    found = find_nearest(embeddings, 0, QUERY, count, tags, not_tags, threads=2)
    assert [match.path for match in found] == [str(at) for at in nearest]
    assert [match.similarity for match in found] == pytest.approx(SIMILARITIES[nearest], abs=1e-4)


def test_a_label_of_no_photo_has_no_nearest(embeddings: Embeddings):
    assert find_nearest(embeddings, 1, QUERY, 10) == []
