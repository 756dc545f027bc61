"""The verb of bulk tagging: tag."""

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from labelwise.errors import LabelwiseError


def tag(
    ctx: typer.Context,
    paths: Annotated[
        list[str],
        typer.Argument(help="Photos, folders, globs, CSV or Parquet lists, tars, zips; - reads paths from stdin."),
    ],
    out: Annotated[str, typer.Option(help="FILE.parquet, .csv or .jsonl, or FOLDER/ for Parquet in parts.")],
    repository: Annotated[
        Path | None, typer.Option(help="Triton model repository. [default: model_repository]")
    ] = None,
    engine: Annotated[
        Literal["embedded", "triton"], typer.Option(help="What runs the repository's model here.")
    ] = "embedded",
    server: Annotated[
        str | None, typer.Option(help="Servers to use instead, as a,b: grpc://HOST:8001 (Triton) or http://HOST:8000.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Which model to use, if there is more than one.")] = None,
    key: Annotated[str | None, typer.Option(envvar="LABELWISE_KEY", help="The gateway's API key.")] = None,
    send: Annotated[
        Literal["auto", "pixels", "bytes"],
        typer.Option(help="Send a server decoded pixels, or the photos' bytes, which it decodes itself."),
    ] = "auto",
    scores: Annotated[
        Literal["all", "tags"], typer.Option(help="Write every label's score, or only those of the tags.")
    ] = "all",
    xmp: Annotated[
        bool, typer.Option("--xmp", help="Also write each photo's tags as keywords beside it: photo.jpg.xmp.")
    ] = False,
    xmp_stem: Annotated[
        bool, typer.Option("--xmp-stem", help="Name the files photo.xmp, as Lightroom expects beside raw files.")
    ] = False,
    exclude: Annotated[
        list[str] | None,
        typer.Option(help="GLOB of folders or photos to leave out, such as drafts or '*_edit.jpg'; repeatable."),
    ] = None,
    hidden: Annotated[
        bool, typer.Option("--hidden", help="Also take hidden folders and other programs' thumbnails and recycle bins.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace an output that another model or version wrote.")
    ] = False,
    ray: Annotated[
        bool, typer.Option("--ray", help="Tag on the Ray cluster at RAY_ADDRESS, or on a local one.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes on Ray, one core each. [default: all cores]")
    ] = None,
    patience: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for servers that do not answer before stopping.")
    ] = 300,
) -> None:
    """Tag any number of photos into one table. Run it again to resume, or to add new and changed photos."""
    from serving.bulk.tag_errors import UsageError
    from serving.bulk.tag_files import tag_files
    from serving.bulk.tag_options import TagOptions
    from serving.bulk.xmp.sidecars import Sidecars
    from serving.settings import load_settings

    source = ctx.get_parameter_source("key")
    if source is not None and source.name == "ENVIRONMENT" and not (server or "").startswith("http"):
        key = None  # the variable is meant for gateways
    options = TagOptions(
        out=out,
        engine=engine,
        repository=repository or load_settings().repository,
        servers=server,
        model=model,
        key=key,
        send=send,
        every_score=scores == "all",
        sidecars=Sidecars(stem=xmp_stem) if xmp or xmp_stem else None,
        hidden=hidden,
        exclude=tuple(exclude or ()),
        force=force,
        patience=patience,
        ray=ray,
        workers=workers,
    )
    try:
        summary = tag_files(paths, options)
    except UsageError as error:
        print(f"labelwise: {error}", file=sys.stderr)
        raise typer.Exit(2) from error
    except KeyboardInterrupt:  # before the first photo
        print("labelwise: Stopped: run the same command again to continue.", file=sys.stderr)
        raise typer.Exit(130) from None
    _tell(str(summary))
    if summary.stopped:
        raise typer.Exit(130)
    raise typer.Exit(1 if summary.broken else 0)


def _tell(summary: str) -> None:
    """Prints the summary. Raises LabelwiseError if stdout is closed: the table is complete all the same."""
    try:
        print(summary, flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # otherwise Python fails again as it exits
        raise LabelwiseError(f"{summary} But this cannot be printed: {error.strerror}.") from error


def add_verbs(app: typer.Typer) -> None:
    app.command()(tag)
