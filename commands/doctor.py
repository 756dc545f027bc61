"""The verb that looks at the machine: doctor."""

import json
from typing import Annotated, Literal

import typer


def doctor(
    want: Annotated[
        Literal["gpu", "cuda", "tensorrt", "tensorrt-rtx", "nvjpeg", "triton"] | None,
        typer.Option(help="Exit with 1 if this machine does not have it."),
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Say what this machine has, what of it works and why not, and what `labelwise serve` would use."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from labelwise.errors import LabelwiseError
    from serving.doctor import examine

    found = examine()
    if json_:
        typer.echo(json.dumps(found.to_json(), indent=2))
    else:
        table = Table("", "found", "", title=None, show_header=False)
        for row in found.findings:
            sign = {True: Text("ok", "green"), False: Text("no", "yellow"), None: Text("")}[row.works]
            text = f"{row.found}. {row.remedy[:1].upper()}{row.remedy[1:]}." if row.remedy else row.found
            table.add_row(Text(row.subject), Text(text, overflow="fold"), sign)
        Console().print(table)
        typer.echo(f"labelwise serve would run models on {found.serves_on}.")
    if want and (lack := found.lacks(want)):
        raise LabelwiseError(f"There is no {want} here: {lack}.")
