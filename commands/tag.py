"""The verb of bulk tagging: tag."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from labelwise.devices.names import DeviceChoice
from labelwise.errors import LabelwiseError

if TYPE_CHECKING:
    from serving.bulk.tag_options import TagOptions
    from serving.bulk.xmp.sidecars import Sidecars

Paths = Annotated[
    list[str],
    typer.Argument(help="Photos, folders, globs, CSV or Parquet lists, tars, zips; - reads paths from stdin."),
]
Out = Annotated[str, typer.Option(help="FILE.parquet, .csv or .jsonl, or FOLDER/ for Parquet in parts.")]
Repository = Annotated[Path, typer.Option(envvar="LABELWISE_REPOSITORY", help="Triton model repository.")]
Engine = Annotated[Literal["embedded", "triton"], typer.Option(help="What runs the repository's model here.")]
Device = Annotated[
    DeviceChoice,
    typer.Option(envvar="LABELWISE_DEVICE", help="What the embedded engine runs on; auto is cuda if it works."),
]
Precision = Annotated[
    Literal["auto", "fp32", "fp16", "int8"],
    typer.Option(envvar="LABELWISE_PRECISION", help="Number format of the model; auto: the fastest that tags as well."),
]
Servers = Annotated[
    str | None, typer.Option(help="Servers to use instead, as a,b: grpc://HOST:8001 (Triton) or http://HOST:8000.")
]
Model = Annotated[str | None, typer.Option(help="Which model to use. [default: the only one, or everyday]")]
Key = Annotated[str | None, typer.Option(envvar="LABELWISE_KEY", help="The gateway's API key.")]
Send = Annotated[
    Literal["auto", "pixels", "bytes"],
    typer.Option(help="Send a server decoded pixels, or the photos' bytes, which it decodes itself."),
]
Scores = Annotated[Literal["all", "tags"], typer.Option(help="Write every label's score, or only those of the tags.")]
Embeddings = Annotated[
    bool, typer.Option("--embeddings", help="Also keep the embeddings of each photo's tags, for labelwise search.")
]
Xmp = Annotated[bool, typer.Option("--xmp", help="Also write each photo's tags as keywords beside it: photo.jpg.xmp.")]
XmpStem = Annotated[
    bool, typer.Option("--xmp-stem", help="Name the files photo.xmp, as Lightroom expects beside raw files.")
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(help="GLOB of folders or photos to leave out, such as drafts or '*_edit.jpg'; repeatable."),
]
Hidden = Annotated[
    bool, typer.Option("--hidden", help="Also take hidden folders and other programs' thumbnails and recycle bins.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace an output that another model or version wrote.")]
OnRay = Annotated[bool, typer.Option("--ray", help="Tag on the Ray cluster at RAY_ADDRESS, or on a local one.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes on Ray, one core each. [default: all cores]")]
Patience = Annotated[float, typer.Option(min=0, help="Seconds to wait for servers that do not answer before stopping.")]


def tag(
    paths: Paths,
    out: Out,
    repository: Repository = Path("model_repository"),
    engine: Engine = "embedded",
    device: Device = "auto",
    precision: Precision = "auto",
    server: Servers = None,
    model: Model = None,
    key: Key = None,
    send: Send = "auto",
    scores: Scores = "all",
    embeddings: Embeddings = False,
    xmp: Xmp = False,
    xmp_stem: XmpStem = False,
    exclude: Exclude = None,
    hidden: Hidden = False,
    force: Force = False,
    ray: OnRay = False,
    workers: Workers = None,
    patience: Patience = 300,
) -> None:
    """Tag any number of photos into one table. Run it again to resume, or to add new and changed photos."""
    from serving.processes import importing

    with importing():
        from serving.bulk import tag_files  # noqa: F401 - `_run` uses it
        from serving.bulk.tag_options import TagOptions

    options = TagOptions(
        out=out,
        engine=engine,
        device=device,
        precision=precision,
        repository=repository,
        servers=server,
        model=model,
        key=_key_for(server, key),
        send=send,
        every_score=scores == "all",
        embeddings=embeddings,
        sidecars=_sidecars(xmp_stem) if xmp or xmp_stem else None,
        hidden=hidden,
        exclude=tuple(exclude or ()),
        force=force,
        patience=patience,
        ray=ray,
        workers=workers,
    )
    raise typer.Exit(_run(paths, options))


def _key_for(server: str | None, key: str | None) -> str | None:
    """Leaves out the environment's key if no gateway is asked: the variable is meant for gateways."""
    is_from_environment = key == os.environ.get("LABELWISE_KEY")
    return None if is_from_environment and not (server or "").startswith("http") else key


def _sidecars(stem: bool) -> "Sidecars":
    from serving.bulk.xmp.sidecars import Sidecars  # it loads lxml

    return Sidecars(stem=stem)


def _run(paths: list[str], options: "TagOptions") -> int:
    from serving.bulk.tag_files import tag_files

    try:
        summary = tag_files(paths, options)
    except KeyboardInterrupt:  # before the first photo
        print("labelwise: Stopped: run the same command again to continue.", file=sys.stderr)
        return 130
    try:
        print(summary, flush=True)
    except OSError as error:  # stdout is closed; the table is complete all the same
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # otherwise Python fails again as it exits
        raise LabelwiseError(f"{summary} But this cannot be printed: {error.strerror}.") from error
    if summary.stopped:
        return 130
    return 1 if summary.broken else 0
