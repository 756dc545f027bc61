"""What annotations say about labels, and when it is worth a lesson."""

import pytest
from pydantic import TypeAdapter

from labelwise.spec import TaughtLabel
from serving.label_studio.answers import Answers, answers_by_label
from serving.label_studio.labelling import read_questions
from serving.label_studio.studio import Task
from tests.serving.label_studio.studio_server import CONFIG, annotated, upload


def test_yes_if_all_chose_it_no_if_none_did() -> None:
    tasks = TypeAdapter(list[Task]).validate_python(
        [
            annotated("both.jpg", ["Sea", "sunset"]),
            annotated("nothing.jpg", []),
            annotated("skipped.jpg", None),
            annotated("nobody.jpg"),
            annotated("doubt.jpg", ["Sea"], ["Sea", "helmet"], None),
        ]
    )
    answers = answers_by_label(tasks, read_questions(CONFIG), ("sea", "trees"))
    both, nothing, doubt = map(upload, ("both.jpg", "nothing.jpg", "doubt.jpg"))
    assert answers == {
        "sea": Answers({both: True, nothing: False, doubt: True}),
        "sunset": Answers({both: True, nothing: False, doubt: False}),
        "helmet": Answers({both: False, nothing: False}),
    }


def answers(yes: int, no: int) -> Answers:
    return Answers({f"{number}.jpg": number < yes for number in range(yes + no)})


@pytest.mark.parametrize(
    ("yes", "no", "by_itself", "asked_for"),
    [(2, 90, False, False), (3, 3, False, True), (4, 90, False, True), (5, 5, True, True)],
)
def test_a_first_lesson_needs_some_of_each(yes: int, no: int, by_itself: bool, asked_for: bool) -> None:
    assert answers(yes, no).are_due(None, is_asked_for=False) is by_itself
    assert answers(yes, no).are_due(None, is_asked_for=True) is asked_for


def test_further_lessons_wait_for_half_as_much_again() -> None:
    earlier = answers(10, 20)
    grown = Answers({**earlier.by_photo, **{f"new-{number}.jpg": True for number in range(9)}})
    assert not grown.are_due(earlier, is_asked_for=False)
    assert grown.are_due(earlier, is_asked_for=True)
    assert Answers({**grown.by_photo, "one more.jpg": True}).are_due(earlier, is_asked_for=False)
    assert not earlier.are_due(earlier, is_asked_for=True)
    corrected = Answers({photo: not shows for photo, shows in earlier.by_photo.items()})
    assert corrected.are_due(earlier, is_asked_for=False)


def test_a_lesson_of_an_earlier_run_counts_by_its_photos() -> None:
    numbers = dict.fromkeys(("average_precision", "average_precision_spread", "f1", "f1_spread"), 0.5)
    record = TaughtLabel(version=2, improved=False, photos_with=10, photos_without=20, **numbers)
    assert not answers(10, 20).are_due(record, is_asked_for=True)
    assert answers(11, 20).are_due(record, is_asked_for=True)
    assert not answers(14, 20).are_due(record, is_asked_for=False)
    assert answers(20, 20).are_due(record, is_asked_for=False)
    most = record.model_copy(update={"photos_with": 100, "photos_without": 300})
    assert not answers(5000, 5000).are_due(most, is_asked_for=False)  # more than a lesson takes
