"""The cases of tagging_cases.json, which every caller of labelwise.tagging follows, and the page's JavaScript."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from labelwise.spec import TaggerSpec, TensorSpec
from tests.conftest import ROOT

TABLE = Path(__file__).with_suffix(".json")


@dataclass(frozen=True)
class Case:
    """One photo: its scores [l], and the contract of a tagger with these labels and thresholds."""

    spec: TaggerSpec
    scores: NDArray[np.float32]
    ranked: list[tuple[str, float]]
    tags: list[str]

    @property
    def is_tag(self) -> list[bool]:
        return [label in self.tags for label in self.spec.labels]


def _case(entry: dict) -> Case:
    bundled = TaggerSpec.read(ROOT / "model_repository/scenes").model_dump()
    scores = TensorSpec(name="scores", dtype="float32", shape=(len(entry["labels"]),))
    changes = {"labels": entry["labels"], "thresholds": entry["thresholds"], "outputs": [scores]}
    spec = TaggerSpec.model_validate(bundled | changes | {"embedding_dim": None, "attention_grid": None})
    ranked = [(label, score) for label, score in entry["ranked"]]
    return Case(spec, np.array(entry["scores"], np.float32), ranked, entry["tags"])


CASES = [pytest.param(_case(entry), id=entry["name"]) for entry in json.loads(TABLE.read_text("utf-8"))]
every_case = pytest.mark.parametrize("case", CASES)
