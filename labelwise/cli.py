"""`labelwise <verb>`: each verb imports its stage only when it is called, so serving never loads torch."""

import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from labelwise import __version__
from labelwise.errors import LabelwiseError


class Backend(str, Enum):
    """The Triton backend of an exported model."""

    onnxruntime = "onnxruntime"
    python = "python"


class Split(str, Enum):
    """A part of a data set."""

    train = "train"
    val = "val"
    all = "all"


class Engine(str, Enum):
    """Who runs the model."""

    embedded = "embedded"
    triton = "triton"


app = typer.Typer(
    name="labelwise",
    help="Train a multi-label image tagger on your own labels, export it, and serve it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Entry point: a LabelwiseError becomes one line on stderr and exit code 1."""
    try:
        app()
    except LabelwiseError as error:
        print(f"labelwise: {error}", file=sys.stderr)
        sys.exit(1)
    except ModuleNotFoundError as error:
        extra = _EXTRA_OF.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        print(f"labelwise: this needs the {extra!r} extra: pip install 'labelwise[{extra}]'", file=sys.stderr)
        sys.exit(1)


_EXTRA_OF = {
    "torch": "train",
    "timm": "train",
    "torchvision": "train",
    "sklearn": "train",
    "safetensors": "train",
    "onnx": "export",
    "onnxscript": "export",
    "google": "export",
    "pytriton": "triton",
}


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit


@app.command()
def train(
    data: Annotated[
        Path, typer.Argument(help="A CSV, or a folder with labels.csv: image, a 0/1 column a label, split.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the run: checkpoint, contract, history.")],
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting as key=value, e.g. --set epochs=10 --set model.dim=128; may repeat."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random. [default: 0]")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
) -> None:
    """Train a tagger: BCE, then BCE with the label-level contrastive loss."""
    from training.run import train_run

    seeds = [] if seed is None else [f"seed={seed}"]
    train_run(data, out, [*(set_ or []), *seeds], resume)


@app.command()
def evaluate(
    source: Annotated[Path, typer.Argument(help="Folder of a trained run, or a model repository.")],
    data: Annotated[Path, typer.Argument(help="Labelled photos, as for train.")],
    split: Annotated[Split, typer.Option(help="Which part of the data.")] = Split.val,
) -> None:
    """Measure a run or an exported tagger on labelled photos: mAP, label-ranking AP, each label at its threshold."""
    from rich.console import Console
    from rich.table import Table

    from training.evaluate import evaluate_tagger

    evaluation = evaluate_tagger(source, data, split.value)
    table = Table("label", "photos", "AP", "precision", "recall", "F1", "threshold")
    for row in evaluation.labels:
        values = (row.average_precision, row.precision, row.recall, row.f1, row.threshold)
        table.add_row(row.label, str(row.photos), *(f"{value:.3f}" for value in values))
    Console().print(table, "  ".join(f"{name} {value:.4f}" for name, value in evaluation.metrics.items()))


@app.command()
def synth(
    out: Annotated[Path, typer.Argument(help="Folder to write images/ and labels.csv into.")],
    count: Annotated[int, typer.Option(min=10, help="Number of pictures.")] = 500,
    seed: Annotated[int, typer.Option(min=0, help="The same seed draws the same pictures.")] = 0,
    labels: Annotated[int, typer.Option(help="Number of labels, 2 to 80: shapes in colours.")] = 24,
    size: Annotated[int, typer.Option(min=16, max=1024, help="Side of the square pictures, in pixels.")] = 128,
    unknown: Annotated[float, typer.Option(min=0, max=0.95, help="Share of the labels' cells to leave unknown.")] = 0,
) -> None:
    """Draw a procedural multi-label data set in seconds: for a first try, and for tests."""
    from training.synth import draw_dataset

    draw_dataset(out, count, seed, labels, size, unknown)
    typer.echo(f"Drew {count} pictures with {labels} labels in {out}.")


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Folder of a trained run.")],
    to: Annotated[Path, typer.Option(help="Triton model repository to publish into.")],
    name: Annotated[str, typer.Option(help="Name of the tagger there.")],
    version: Annotated[int | None, typer.Option(min=1, help="Version number; by default the next one.")] = None,
    backend: Annotated[
        Backend, typer.Option(help="What runs the model by default; Triton can be told to use the other.")
    ] = Backend.onnxruntime,
) -> None:
    """Export a run: ONNX, checked against PyTorch, published as a Triton repository."""
    from export.run import export_run

    result = export_run(run, to, name, version, backend.value)
    for difference in result.differences:
        typer.echo(f"{difference.output:<11} batch {difference.batch:<4} differs by at most {difference.value:.1e}")
    typer.echo(f"Published {result.spec.name} version {result.spec.version} in {to}.")


@app.command()
def serve(
    repository: Annotated[
        Path | None, typer.Option(help="Triton model repository. [default: model_repository]")
    ] = None,
    engine: Annotated[Engine | None, typer.Option(help="Who runs the model. [default: embedded]")] = None,
    triton_url: Annotated[
        str | None, typer.Option(help="gRPC host:port of a running Triton; without it one is started and stopped here.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on. [default: 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one. [default: 8000]")] = None,
) -> None:
    """Serve a model repository over HTTP, with a page to try it. More settings: LABELWISE_* in the environment."""
    from serving.run import run
    from serving.settings import load_settings

    run(load_settings(repository=repository, engine=engine, triton_url=triton_url, host=host, port=port))
