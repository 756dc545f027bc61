"""An answer that differs from the contract is refused. The rest is tested with the engine and the client."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from labelwise.repository import Repository
from labelwise.spec import TaggerSpec
from serving.errors import ServerFailed
from serving.triton.link import _checked


@pytest.fixture
def spec(repository: Path) -> TaggerSpec:
    versions = Repository.open(repository).taggers["scenes"]
    return versions[max(versions)].spec


def test_an_answer_as_in_the_contract_is_taken(spec: TaggerSpec) -> None:
    scores = np.zeros((2, len(spec.labels)), np.float32)
    result = SimpleNamespace(as_numpy={"scores": scores}.get)
    assert _checked(result, ["scores"], spec, 2, "url")["scores"] is scores


@pytest.mark.parametrize(
    "scores", [None, np.zeros((3, 5), np.float32), np.zeros((2, 4), np.float32), np.zeros((2, 5), np.float64)]
)
def test_another_answer_is_refused(spec: TaggerSpec, scores: NDArray[np.float32] | None) -> None:
    assert len(spec.labels) == 5
    result = SimpleNamespace(as_numpy={"scores": scores}.get)
    with pytest.raises(ServerFailed, match=r"scores from url came as .*, not as float32 \(2, 5\)"):
        _checked(result, ["scores"], spec, 2, "url")
