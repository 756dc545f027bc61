"""Embeddings as JSON: as few digits as tell one float32 from others."""

import numpy as np

from labelwise.spec import TaggerSpec
from labelwise.tagging import choose
from serving.gateway.answers.embedding import make_embed_answer
from tests.conftest import ROOT


def test_numbers_have_the_digits_of_a_float32() -> None:
    choice = choose(TaggerSpec.read(ROOT / "model_repository/scenes"))
    random = np.random.default_rng(0)
    vectors = random.normal(size=(5, 400)) * 10.0 ** random.integers(-12, 1, (5, 400))
    vectors[0, :6] = 0, 1, -1, 0.5, 1e-7, 123456.7
    vectors = vectors.astype(np.float32)

    answer = make_embed_answer(choice, vectors, (), "id")

    assert [entry.values for entry in answer.embeddings] == [[float(str(value)) for value in row] for row in vectors]


def test_what_is_not_a_number_stays_so() -> None:
    choice = choose(TaggerSpec.read(ROOT / "model_repository/scenes"), labels=["sea"])
    vectors = np.full((5, 3), [np.nan, np.inf, 0.25], np.float32)
    assert '"values":[null,null,0.25]' in make_embed_answer(choice, vectors, (), "id").model_dump_json()
