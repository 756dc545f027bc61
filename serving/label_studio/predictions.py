"""What a tagger says about a photo, in Label Studio's words."""

from collections.abc import Mapping, Sequence
from typing import Any

from labelwise.spec import TaggerSpec
from serving.client import TagResult
from serving.label_studio.labelling import Question, labels_of

_DIGITS = 4


def version_of(spec: TaggerSpec) -> str:
    """What Label Studio shows, and by which it knows that a prediction is of an older version."""
    return f"{spec.name} {spec.version}"


class Predictor:
    """Answers `questions` with the labels of the model `spec`."""

    def __init__(self, questions: Sequence[Question], spec: TaggerSpec) -> None:
        self._answerable = [(question, labels_of(question, spec.labels)) for question in questions]
        self._version = version_of(spec)

    @property
    def knows_any(self) -> bool:
        """Whether the model has a label for any choice."""
        return any(labels for _, labels in self._answerable)

    def predict(self, photos: Mapping[str, TagResult]) -> dict[str, Any] | None:
        """The prediction for a task whose photos have these tags, by the field of the task's data; None if there is no
        choice that the model knows.

        A choice is predicted if its score reaches the label's threshold; of a single choice only the best one. The
        prediction's score is how probable it is that its most doubtful choice is right. So Label Studio's sampling by
        uncertainty asks first about the photos that the model learns most from.
        """
        results, certainties = [], []
        for question, labels in self._answerable:
            if not labels or question.data_key not in photos:
                continue
            tagged = photos[question.data_key]
            scores = {result: tagged.scores[label] for result, label in labels.items()}
            tags = {tag.label for tag in tagged.tags}
            chosen = [result for result, label in labels.items() if label in tags]
            if not question.is_multiple:
                best = max(scores, key=lambda result: scores[result])
                chosen, scores = [name for name in chosen if name == best], {best: scores[best]}
            certainties += [score if result in chosen else 1 - score for result, score in scores.items()]
            if chosen:
                results.append(_result(question, chosen, min(scores[name] for name in chosen)))
        if not certainties:
            return None
        return {"result": results, "score": round(min(certainties), _DIGITS), "model_version": self._version}


def _result(question: Question, chosen: Sequence[str], score: float) -> dict[str, Any]:
    order = [choice.result for choice in question.choices]
    return {
        "from_name": question.name,
        "to_name": question.image,
        "type": "choices",
        "value": {"choices": sorted(chosen, key=order.index)},
        "score": round(score, _DIGITS),
    }
