"""The verb that finds photos: search."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer


def search(
    table: Annotated[str, typer.Argument(help="What labelwise tag --embeddings wrote.")],
    like: Annotated[str, typer.Option(help="The photo that the others look like; it need not be in the table.")],
    label: Annotated[str, typer.Option(help="By which of its labels they look like it.")],
    tag: Annotated[list[str] | None, typer.Option(help="A tag that they have, too; repeatable.")] = None,
    not_tag: Annotated[list[str] | None, typer.Option(help="A tag that they do not have; repeatable.")] = None,
    count: Annotated[int, typer.Option(min=1, help="How many photos to find.")] = 10,
    repository: Annotated[Path, typer.Option(envvar="LABELWISE_REPOSITORY", help="Triton model repository.")] = Path(
        "model_repository"
    ),
    json_: Annotated[bool, typer.Option("--json", help="Print JSON instead of lines.")] = False,
) -> None:
    """Find the photos of a table whose sea, or another label, looks like that of one photo."""
    from serving.processes import importing

    with importing():
        from labelwise.tagging import rounded
        from serving.bulk.search_photos import Search, search_photos

    found = search_photos(
        Search(
            table=table,
            like=like,
            label=label,
            tags=tuple(tag or ()),
            not_tags=tuple(not_tag or ()),
            count=count,
            repository=repository,
        )
    )
    if not found.is_tag:
        print(
            f"labelwise: {like} has {label} only with the score {found.score:.2f}, below {found.threshold:.2f}: "
            "the photos found may not look like it.",
            file=sys.stderr,
        )
    if json_:
        matches = [
            match._asdict() | {"similarity": round(match.similarity, 4), "score": rounded(match.score)}
            for match in found.matches
        ]
        print(json.dumps({"label": label, "score": found.score, "threshold": found.threshold, "photos": matches}))
        return
    for match in found.matches:
        print(f"{match.similarity:.3f}  {match.path}")
    if not found.matches:
        print(f"labelwise: No other photo of {table} has these tags.", file=sys.stderr)
