"""The verb that adds a label to a published tagger: teach."""

import contextlib
import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from commands.extras import how_to_install
from labelwise.errors import DataError, LabelwiseError

_CSV_HELP = "A table with the column image and one per label (1, 0, or empty for unknown), or Label Studio's export."
_UNCLEAR = (
    "Give either --label with --yes and --no, or --labels TABLE.csv, or --from-feedback FILE.db, or --forget LABEL, or "
    "--back-to VERSION."
)
_STORE_HELP = "The store of `labelwise serve --feedback`: learn its corrections of --label, or of every label."


def teach(
    repository: Annotated[Path, typer.Argument(help="Triton model repository.")],
    model: Annotated[str | None, typer.Option(help="Tagger to teach. [default: the only one, or everyday]")] = None,
    label: Annotated[str | None, typer.Option(help="The label to add, or to improve if the tagger has it.")] = None,
    yes: Annotated[list[Path] | None, typer.Option(help="Photos that have it: a folder or a list; repeatable.")] = None,
    no: Annotated[list[Path] | None, typer.Option(help="Photos without it, like those to be tagged.")] = None,
    labels: Annotated[Path | None, typer.Option(help=_CSV_HELP)] = None,
    from_feedback: Annotated[Path | None, typer.Option(help=_STORE_HELP)] = None,
    forget: Annotated[str | None, typer.Option(help="Remove this label instead.")] = None,
    back_to: Annotated[int | None, typer.Option(min=1, help="Go back to what this version was instead.")] = None,
    keep: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Keep only so many of the newest versions, and the last one from before the lessons. [default: all]",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a line of JSON for each step, and for the result or the error.")
    ] = False,
) -> None:
    """Add a label to a published tagger from a few photos, improve one, or remove one: publishes the next version."""
    with _errors_as_json() if as_json else contextlib.nullcontext():
        ways = (label is not None, labels is not None, forget is not None, back_to is not None)
        photos = [*(yes or []), *(no or [])]
        if from_feedback is not None:
            is_clear = sum(ways) <= 1 and forget is None and back_to is None and (label is not None or not photos)
        else:
            is_clear = sum(ways) == 1 and (label is not None) == bool(yes) == bool(no)
        if not is_clear:
            raise LabelwiseError(_UNCLEAR)
        if forget is not None or back_to is not None:
            _undo(repository, model, forget, back_to, keep, as_json)
        else:
            _teach(repository, model, labels or (label, yes or [], no or []), keep, as_json, from_feedback)


def _teach(
    repository: Path,
    model: str | None,
    photos: Path | tuple[str | None, list[Path], list[Path]],
    keep: int | None,
    as_json: bool,
    from_feedback: Path | None,
) -> None:
    """`photos` are a table, or a label with what shows it and what does not; without a label, those of the store."""
    from labelwise.feedback import FeedbackStore
    from teaching import lesson
    from teaching.expectation import facts, report
    from teaching.given_photos import from_folders, from_table, no_photos, tell_nobody

    if isinstance(photos, Path):
        given = from_table(photos)
    else:
        label, yes, no = photos
        given = no_photos() if label is None else from_folders(label, yes, no)
    store = None if from_feedback is None else FeedbackStore(from_feedback)
    taught = lesson.teach(repository, model, given, keep, _print_json if as_json else tell_nobody, store)
    if as_json:
        _print_json({"result": _version_facts(taught.published) | facts(taught)})
        return
    for line in report(taught):
        typer.echo(line)
    typer.echo(f"Published {taught.spec.name} version {taught.spec.version} in {repository}.")


def _undo(
    repository: Path, model: str | None, forget: str | None, back_to: int | None, keep: int | None, as_json: bool
) -> None:
    from teaching import lesson

    if back_to is None:
        published, how = lesson.forget(repository, model, forget or "", keep), f"without {forget}"
    else:
        published, how = lesson.back_to(repository, model, back_to, keep), f"as version {back_to} was"
    if as_json:
        _print_json({"result": _version_facts(published)})
    else:
        typer.echo(f"Published {published.spec.name} version {published.spec.version} in {repository}, {how}.")


def _version_facts(published: Any) -> dict[str, Any]:
    spec = published.spec
    return {"model": spec.name, "version": spec.version, "previous_version": published.previous}


def _print_json(line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)


@contextlib.contextmanager
def _errors_as_json() -> Iterator[None]:
    """Prints an error as {"error": …, "kind": …}. SIGTERM ends the lesson with its clean-up.

    The kind is `data` if what was given cannot be learned from, `setup` if a package is missing, otherwise `failed`.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        yield
    except LabelwiseError as error:
        _print_json({"error": str(error), "kind": "data" if isinstance(error, DataError) else "failed"})
        raise typer.Exit(error.exit_code) from error
    except ModuleNotFoundError as error:
        advice = how_to_install(error)
        if advice is None:
            raise
        _print_json({"error": advice, "kind": "setup"})
        raise typer.Exit(1) from error
