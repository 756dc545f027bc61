"""The verb that adds a label to a published tagger: teach."""

from pathlib import Path
from typing import Annotated

import typer

from labelwise.errors import LabelwiseError

_CSV_HELP = "A table with the column image and one per label: 1 has it, 0 has it not, empty is unknown."


def teach(
    repository: Annotated[Path, typer.Argument(help="Triton model repository.")],
    model: Annotated[str | None, typer.Option(help="Tagger to teach. [default: the only one, or everyday]")] = None,
    label: Annotated[str | None, typer.Option(help="The label to add, or to improve if the tagger has it.")] = None,
    yes: Annotated[list[Path] | None, typer.Option(help="Photos that have it: a folder or a list; repeatable.")] = None,
    no: Annotated[list[Path] | None, typer.Option(help="Photos that have it not, like those to be tagged.")] = None,
    labels: Annotated[Path | None, typer.Option(help=_CSV_HELP)] = None,
    forget: Annotated[str | None, typer.Option(help="Remove this label instead.")] = None,
    keep: Annotated[
        int | None, typer.Option(min=1, help="Keep only this many of the newest versions. [default: all]")
    ] = None,
) -> None:
    """Add a label to a published tagger from a few photos, improve one, or remove one: publishes the next version."""
    ways = (label is not None, labels is not None, forget is not None)
    if sum(ways) != 1 or (label is not None) != bool(yes) or (label is not None) != bool(no):
        raise LabelwiseError("Give either --label with --yes and --no, or --labels TABLE.csv, or --forget LABEL.")
    from teaching import lesson
    from teaching.expectation import report
    from teaching.given_photos import from_folders, from_table

    if forget is not None:
        spec = lesson.forget(repository, model, forget, keep)
        typer.echo(f"Published {spec.name} version {spec.version} in {repository}, without {forget}.")
        return
    given = from_table(labels) if labels else from_folders(label or "", yes or [], no or [])
    taught = lesson.teach(repository, model, given, keep)
    for line in report(taught):
        typer.echo(line)
    typer.echo(f"Published {taught.spec.name} version {taught.spec.version} in {repository}.")
