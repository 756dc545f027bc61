"""`labelwise <verb>`: each verb imports its stage only when it is called, so serving never loads torch."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from labelwise import __version__
from labelwise.errors import LabelwiseError

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
    data: Annotated[Path, typer.Argument(help="A CSV, or a folder with labels.csv: image, a 0/1 column a label, split.")],
    out: Annotated[Path, typer.Option(help="Folder of the run: checkpoint, contract, history.")],
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting as key=value, e.g. --set epochs=10 --set model.dim=128; may repeat."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
) -> None:
    """Train a tagger: BCE, then BCE with the label-level contrastive loss."""
    from training.run import train_run

    train_run(data, out, [*(set_ or []), f"seed={seed}"], resume)


@app.command()
def synth(
    out: Annotated[Path, typer.Argument(help="Folder to write images/ and labels.csv into.")],
    count: Annotated[int, typer.Option(min=10, help="Number of pictures.")] = 500,
    seed: Annotated[int, typer.Option(help="The same seed draws the same pictures.")] = 0,
) -> None:
    """Draw a procedural multi-label data set in seconds: for a first try, and for tests."""
    from training.synth import draw_dataset

    draw_dataset(out, count, seed)
