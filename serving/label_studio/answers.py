"""What annotators said about each label: the yes and no photos of a lesson."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from labelwise.annotators import agreed
from labelwise.spec import TaughtLabel
from serving.label_studio.labelling import Question, label_to_teach, labels_of
from serving.label_studio.studio import Result, Task

NEEDED = 3  # photos with a label and without it that a lesson needs
ENOUGH = 5  # of each, for a lesson that nobody asked for
MOST_YES, MOST_NO = 100, 300  # photos in one lesson
_GROWTH = 0.5  # the share of the yes or of the no that is new, for the next such lesson


@dataclass(frozen=True)
class Answers:
    """Of one label: by the name of the photo, whether it shows the label."""

    by_photo: Mapping[str, bool]

    @property
    def yes(self) -> list[str]:
        return [photo for photo, shows in self.by_photo.items() if shows]

    @property
    def no(self) -> list[str]:
        return [photo for photo, shows in self.by_photo.items() if not shows]

    def are_due(self, earlier: "Answers | TaughtLabel | None", is_asked_for: bool) -> bool:
        """Whether a lesson is worth its time: the last one had the answers `earlier`, or as many as a TaughtLabel says.

        A lesson that nobody asked for waits until there is half as much again, so that a project of any size takes few.
        """
        yes, no = len(self.yes), len(self.no)
        if min(yes, no) < (NEEDED if is_asked_for else ENOUGH):
            return False
        if earlier is None:
            return True
        new_yes, new_no = self._changes_since(earlier)
        return new_yes + new_no > 0 if is_asked_for else new_yes >= _GROWTH * yes or new_no >= _GROWTH * no

    def _changes_since(self, earlier: "Answers | TaughtLabel") -> tuple[int, int]:
        """How many yes and how many no are new, changed or gone."""
        if isinstance(earlier, TaughtLabel):
            yes, no = min(len(self.yes), MOST_YES), min(len(self.no), MOST_NO)
            return abs(yes - earlier.photos_with), abs(no - earlier.photos_without)
        ours, theirs = set(self.by_photo.items()), set(earlier.by_photo.items())
        changed = {photo for photo, _ in ours ^ theirs}
        shown = {photo for photo, shows in ours | theirs if shows}
        return len(changed & shown), len(changed - shown)


def answers_by_label(tasks: Sequence[Task], questions: Sequence[Question], labels: Sequence[str]) -> dict[str, Answers]:
    """The answers to each choice of `questions`, by the label that they teach; `labels` are the model's.

    As `labelwise train` reads an export: a choice is a yes if all annotators of a task chose it, a no if none did. If
    only some did, the photo is left out for this label. An annotation that was skipped does not count.
    """
    found: dict[str, dict[str, bool]] = {}
    for question in questions:
        known = labels_of(question, labels)
        taught = {choice.result: label_to_teach(choice, known) for choice in question.choices}
        for label in taught.values():
            found.setdefault(label, {})
        for photo, given in _annotated(tasks, question):
            chosen, disputed = agreed(given)
            for result, label in taught.items():
                if result not in disputed:
                    found[label][photo] = found[label].get(photo, False) or result in chosen
    return {label: Answers(by_photo) for label, by_photo in found.items()}


def _annotated(tasks: Sequence[Task], question: Question) -> Iterator[tuple[str, list[set[str]]]]:
    """The photo of each task that someone annotated, and what each annotator chose."""
    for task in tasks:
        photo = task.data.get(question.data_key)
        annotations = [annotation for annotation in task.annotations if not annotation.was_cancelled]
        if isinstance(photo, str) and photo and annotations:
            yield photo, [_chosen(annotation.result, question.name) for annotation in annotations]


def _chosen(result: Sequence[Result], name: str) -> set[str]:
    found = [one.value.get("choices") or () for one in result if one.from_name == name]
    return {choice for choices in found for choice in choices if isinstance(choice, str)}
