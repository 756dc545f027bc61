"""`labelwise VERB`. Each verb imports its stage only when it is called, so `labelwise serve` never loads torch."""

import sys
from typing import Annotated

import typer

from commands import doctor, export, label_studio, search, serve, tag, teach, train
from commands.extras import how_to_install
from labelwise.errors import LabelwiseError

app = typer.Typer(
    name="labelwise",
    help="Train a multi-label image tagger on your own labels, export it, and serve it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Runs the command line. A LabelwiseError becomes one line on stderr and its exit code."""
    try:
        app()
    except LabelwiseError as error:
        print(f"labelwise: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        advice = how_to_install(error)
        if advice is None:
            raise
        print(f"labelwise: {advice}", file=sys.stderr)
        sys.exit(1)


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        from labelwise.version import VERSION

        print(VERSION)
        raise typer.Exit


for verb in (
    *(train.train, train.evaluate, train.compare, train.shards, train.report, train.synth),
    *(export.export, export.bench, export.check, serve.serve),
):
    app.command()(verb)
app.add_typer(serve.keys_app, name="keys")
app.command()(tag.tag)
app.command()(search.search)
app.command()(teach.teach)
app.command()(label_studio.label_studio)
app.command()(doctor.doctor)
