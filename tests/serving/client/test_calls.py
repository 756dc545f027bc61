"""From a row of outputs to a result, for models of every kind."""

import numpy as np
import pytest

from labelwise.spec import ImageSpec, TaggerSpec
from labelwise.tagging import DIGITS
from serving.client.calls import SEEN_PHOTO, PhotoOutputs, chosen, embedding, explaining, tagging
from serving.errors import ClientError, OutputNotOffered, PhotoError
from tests.conftest import ROOT
from tests.labelwise.tagging_cases import Case, every_case


@pytest.fixture(scope="module")
def spec() -> TaggerSpec:
    return TaggerSpec.read(ROOT / "model_repository/scenes")


def row(spec: TaggerSpec) -> PhotoOutputs:
    values = np.random.default_rng(0)
    shapes = {output.name: output.shape for output in spec.outputs}
    return {name: values.random(shape, dtype=np.float32) for name, shape in shapes.items()}


@every_case
def test_the_one_rule_from_scores_to_tags(case: Case) -> None:
    result = tagging(chosen(case.spec)).result("it", {"scores": case.scores})
    assert [tag.label for tag in result.tags] == case.tags
    assert [*result.scores.items()] == case.ranked


def test_a_score_at_its_threshold_is_a_tag(spec: TaggerSpec) -> None:
    """At a threshold of as many digits as scores have; no score is exactly at one with more."""
    thresholds = tuple(round(threshold, DIGITS) for threshold in spec.thresholds)
    exact = spec.model_copy(update={"thresholds": thresholds})
    scores = np.array(thresholds, np.float32)
    result = tagging(chosen(exact)).result("it", {"scores": scores})
    assert {tag.label for tag in result.tags} == set(spec.labels)
    below = tagging(chosen(exact)).result("it", {"scores": scores - np.float32(1e-5)})
    assert below.tags == ()
    assert [*below.scores.values()] == sorted(below.scores.values(), reverse=True)


def test_an_error_takes_the_place_of_all_else(spec: TaggerSpec) -> None:
    error = PhotoError("image_broken", "It is damaged.")
    for call in (tagging(chosen(spec)), embedding(chosen(spec)), explaining(chosen(spec))):
        result = call.result(3, error)
        assert (result.id, result.model, result.version, result.error) == (3, "scenes", spec.version, error)


def test_a_model_that_only_scores(spec: TaggerSpec) -> None:
    plain = spec.model_copy(update={"outputs": spec.outputs[:1], "embedding_dim": None, "attention_grid": None})
    assert tagging(chosen(plain)).outputs == ("scores",)
    for call, name in ((embedding, "embeddings"), (explaining, "attention")):
        with pytest.raises(OutputNotOffered, match=f"scenes has no {name}; it offers scores"):
            call(chosen(plain))


def test_attention_lies_where_a_cropped_photo_was_seen(spec: TaggerSpec) -> None:
    """200 x 100 stored on its side, so 100 x 200 upright; the model saw the square in its middle."""
    image = ImageSpec(**spec.image.model_dump() | {"resize": "crop"})
    cropped = spec.model_copy(update={"image": image})
    outputs = row(cropped) | {SEEN_PHOTO: np.array([100, 200, 6], np.float32)}
    upright = explaining(chosen(cropped, labels=["sea"])).result("it", outputs)
    assert (upright.size, upright.box, upright.orientation) == ((100, 200), (0, 50, 100, 150), 6)
    (seen,) = upright.labels
    assert seen.attention.shape == spec.attention_grid
    assert seen.attention.sum() == pytest.approx(1)
    stored = explaining(chosen(cropped, labels=["sea"]), "stored").result("it", outputs)
    assert (stored.size, stored.box) == ((200, 100), (50, 0, 150, 100))
    np.testing.assert_array_equal(stored.labels[0].attention, np.rot90(seen.attention))
    with pytest.raises(ClientError, match="must be 'upright' or 'stored', not 'sideways'"):
        explaining(chosen(spec), "sideways")  # type: ignore[arg-type]
