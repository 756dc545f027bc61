"""The verb of bulk tagging."""

import os
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from labelwise.errors import LabelwiseError


class Engine(str, Enum):
    """Who runs the model of a repository here."""

    embedded = "embedded"
    triton = "triton"


class Send(str, Enum):
    """What a server is sent."""

    auto = "auto"
    pixels = "pixels"
    bytes = "bytes"


class Scores(str, Enum):
    """Which scores the output has."""

    all = "all"
    tags = "tags"


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
    engine: Annotated[Engine, typer.Option(help="Who runs the repository's model here.")] = Engine.embedded,
    server: Annotated[
        str | None, typer.Option(help="Ask servers instead: grpc://HOST:8001 (Triton) or http://HOST:8000; a,b.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Which model, where there is more than one.")] = None,
    key: Annotated[str | None, typer.Option(envvar="LABELWISE_KEY", help="The gateway's API key.")] = None,
    send: Annotated[
        Send, typer.Option(help="Decode here and send pixels, or send the photos for the server to decode.")
    ] = Send.auto,
    scores: Annotated[Scores, typer.Option(help="Every label's score, or only those of the tags.")] = Scores.all,
    xmp: Annotated[
        bool, typer.Option("--xmp", help="Also write each photo's tags as keywords beside it: photo.jpg.xmp.")
    ] = False,
    xmp_stem: Annotated[
        bool, typer.Option("--xmp-stem", help="The same as photo.xmp, which Lightroom reads beside raw files.")
    ] = False,
    exclude: Annotated[
        list[str] | None,
        typer.Option(help="GLOB of folders or photos to leave out, as drafts or '*_edit.jpg'; may be repeated."),
    ] = None,
    hidden: Annotated[
        bool, typer.Option("--hidden", help="Also take hidden folders and other programs' thumbnails and recycle bins.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace an output of another model or version, which is else refused.")
    ] = False,
    ray: Annotated[
        bool, typer.Option("--ray", help="Tag on the Ray cluster of RAY_ADDRESS, or on one that is started here.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes on Ray, a core each. [default: all cores]")
    ] = None,
    patience: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for servers that do not answer, before it stops.")
    ] = 300,
) -> None:
    """Tag any number of photos into one table. Run it again to go on, or to add what is new or has changed."""
    from serving.bulk.tag_errors import UsageError
    from serving.bulk.tag_files import tag_files
    from serving.bulk.tag_options import TagOptions
    from serving.bulk.xmp.sidecars import Sidecars
    from serving.settings import load_settings

    source = ctx.get_parameter_source("key")
    if source is not None and source.name == "ENVIRONMENT" and not (server or "").startswith("http"):
        key = None  # it stands there for gateways
    options = TagOptions(
        out=out,
        engine=engine.value,
        repository=repository or load_settings().repository,
        servers=server,
        model=model,
        key=key,
        send=send.value,
        every_score=scores is Scores.all,
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
    except KeyboardInterrupt:  # before it took up any photo
        print("labelwise: Stopped: the same command goes on.", file=sys.stderr)
        raise typer.Exit(130) from None
    _tell(str(summary))
    if summary.stopped:
        raise typer.Exit(130)
    raise typer.Exit(1 if summary.broken else 0)


def _tell(summary: str) -> None:
    """The table is whole by now: that nobody can be told so is one line, and no traceback."""
    try:
        print(summary, flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python fails once more as it ends
        raise LabelwiseError(f"{summary} But this cannot be printed: {error.strerror}.") from error


def add_verbs(app: typer.Typer) -> None:
    app.command()(tag)
