"""Queries against a contract: which labels, which thresholds."""

import pytest

from labelwise.spec import TaggerSpec
from serving.gateway.problems import GatewayError
from serving.gateway.requests.query import LabelQuery, TagQuery, choose
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def spec() -> TaggerSpec:
    """Labels as people write them, separators of the query string included."""
    bundled = TaggerSpec.read(ROOT / "model_repository/scenes")
    return bundled.model_copy(update={"labels": ("sea", "rock, paper", "a:b", "paper", "größe")})


@pytest.mark.parametrize(
    ("labels", "chosen"),
    [
        ("sea", (0,)),
        (" paper , sea ", (0, 3)),
        ("rock, paper", (1,)),
        ("rock, paper,paper", (1, 3)),
        ("paper,rock, paper", (1, 3)),
        ("a:b,größe,,", (2, 4)),
        (None, (0, 1, 2, 3, 4)),
    ],
)
def test_labels(spec: TaggerSpec, labels: str | None, chosen: tuple[int, ...]) -> None:
    assert tuple(choose(spec, LabelQuery(labels=labels)).places) == chosen


def test_excluded_labels(spec: TaggerSpec) -> None:
    assert tuple(choose(spec, LabelQuery(exclude="rock, paper,sea")).places) == (2, 3, 4)
    assert tuple(choose(spec, LabelQuery(labels="sea,paper", exclude="sea")).places) == (3,)


@pytest.mark.parametrize(
    ("threshold", "given"),
    [
        ("0.4", {0: 0.4, 1: 0.4, 2: 0.4, 3: 0.4, 4: 0.4}),
        ("1", {0: 1, 1: 1, 2: 1, 3: 1, 4: 1}),
        ("sea:0.25", {0: 0.25}),
        ("rock, paper:.5,a:b:1e-2, größe : 0", {1: 0.5, 2: 0.01, 4: 0}),
        (None, {}),
    ],
)
def test_thresholds(spec: TaggerSpec, threshold: str | None, given: dict[int, float]) -> None:
    expected = tuple(given.get(index, own) for index, own in enumerate(spec.thresholds))
    assert tuple(choose(spec, TagQuery(threshold=threshold)).thresholds) == expected


@pytest.mark.parametrize(
    "threshold", ["", "nan", "inf", "-0.1", "1.01", "1_0", "٠.٥", "sea", "sea:", ":0.5", "sea:0.5,"]
)
def test_wrong_thresholds(spec: TaggerSpec, threshold: str) -> None:
    with pytest.raises(GatewayError, match="threshold: ") as refused:
        choose(spec, TagQuery(threshold=threshold))
    assert refused.value.code == "invalid_request"


def test_hostile_queries_cost_little(spec: TaggerSpec) -> None:
    for text in ("a:" * 15_000, ",a" * 15_000, "sea:0.5," * 4_000):
        with pytest.raises(GatewayError):
            choose(spec, TagQuery(threshold=text))
        with pytest.raises(GatewayError):
            choose(spec, LabelQuery(labels=text))
