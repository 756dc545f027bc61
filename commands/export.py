"""The verbs of the export stage: export, bench and check."""

import signal
from pathlib import Path
from typing import Annotated, Literal

import typer

from labelwise.devices.names import DeviceChoice
from labelwise.errors import LabelwiseError

_Precision = Literal["fp32", "fp16", "int8"]

# The arguments and options of export, some of which the other verbs have, too.
Source = Annotated[Path, typer.Argument(help="Folder of a trained run, or an ONNX file together with --spec.")]
Images = Annotated[
    Path | None, typer.Option(help="Photos to check the model with: a folder or a list. [default: test pictures]")
]
ForeignSpec = Annotated[
    Path | None, typer.Option(help="tagger.json with the labels and the image size of an ONNX file from elsewhere.")
]
Version = Annotated[int | None, typer.Option(min=1, max=10**15 - 1, help="Version number; by default the next one.")]
NumberFormats = Annotated[
    str,
    typer.Option(
        help="Number formats of the model, separated by commas: fp16 for GPUs; int8 for CPUs, with --calibrate. Of "
        "several, labelwise serve runs the fastest whose loss in mAP, measured on --data, is small."
    ),
]
Calibration = Annotated[
    Path | None, typer.Option(help="Photos to calibrate int8 with, a folder or a list; like those to be tagged.")
]
Backend = Annotated[
    Literal["onnxruntime", "python", "tensorrt"],
    typer.Option(help="Triton backend that runs the model by default."),
]
Keep = Annotated[int | None, typer.Option(min=1, help="Keep only this many of the newest versions. [default: all]")]
Plan = Annotated[
    _Precision | None,
    typer.Option(help="Also build a TensorRT plan for this machine's GPU, in this number format."),
]
Serving = Annotated[
    list[str] | None,
    typer.Option("--set", help="How Triton serves the model, such as --set instances=2 --set device=gpu; repeatable."),
]
Labelled = Annotated[str | None, typer.Option(help="Labelled photos, as for train: shows how mAP and tags change.")]


def export(
    source: Source,
    to: Annotated[Path, typer.Option(help="Triton model repository to publish into.")],
    name: Annotated[str, typer.Option(help="Name of the tagger in the repository.")],
    version: Version = None,
    precision: NumberFormats = "fp32",
    calibrate: Calibration = None,
    backend: Backend = "onnxruntime",
    images: Images = None,
    data: Labelled = None,
    spec: ForeignSpec = None,
    keep: Keep = None,
    plan: Plan = None,
    set_: Serving = None,
) -> None:
    """Export a trained run or an ONNX file from elsewhere, check it against its source, and publish it for Triton."""
    from export.exporting import Target, export_tagger, make_options, parse_precisions
    from export.pictures import Evidence

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C does: cleans up what it began
    target = Target(to, name, version, parse_precisions(precision), backend, make_options(set_ or []), keep, plan)
    result = export_tagger(source, spec, target, Evidence(images, calibrate, data))
    for graph in result.graphs:
        for difference in graph.differences:
            typer.echo(
                f"{graph.spec.precision}  {difference.output:<11} batch {difference.batch:<4} "
                f"differs by at most {difference.value:.1e}"
            )
        if graph.spec.precision == "fp16":
            typer.echo("These differences come from emulated half precision: this CPU computes fp16 in fp32.")
        for found in (graph.quantization, graph.change):
            if found:
                typer.echo(f"{graph.spec.precision}  {found}")
    typer.echo(f"Published {result.spec.name} version {result.spec.version} in {to}.")


def bench(
    source: Source,
    calibrate: Annotated[
        Path | None,
        typer.Option(help="Photos to calibrate int8 with, a folder or a list; without them int8 is left out."),
    ] = None,
    data: Annotated[str | None, typer.Option(help="Labelled photos, as for train: shows the loss in mAP.")] = None,
    spec: ForeignSpec = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads for each batch. [default: all cores]")] = None,
    device: Annotated[
        DeviceChoice,
        typer.Option(help="What to run on; auto is cuda if it works, otherwise cpu."),
    ] = "auto",
    out: Annotated[Path | None, typer.Option(help="Also write the table to this Markdown file.")] = None,
) -> None:
    """Measure speed and loss of fp32, fp16 and int8 on this machine, at batch 1 and 8. Publishes nothing."""
    from rich.console import Console

    from export.bench import bench_precisions, markdown, table
    from export.exporting import open_source
    from export.pictures import Evidence
    from labelwise.devices.choice import choose_device

    if out and not out.parent.is_dir():
        raise LabelwiseError(f"There is no folder {out.parent} to write {out.name} into.")
    chosen = choose_device(device)  # before anything slow
    opened = open_source(source, spec)
    measured = bench_precisions(opened, Evidence(calibrate=calibrate, data=data), threads, chosen)
    Console().print(table(measured))
    if out:
        out.write_text(markdown(measured), "utf-8")


def check(
    repository: Annotated[Path, typer.Argument(help="Triton model repository.")],
    images: Images = None,
    data: Annotated[
        str | None, typer.Option(help="Labelled photos, as for train: shows mAP, and with --run that of both.")
    ] = None,
    run: Annotated[Path | None, typer.Option(help="Folder of the trained run to compare the repository with.")] = None,
) -> None:
    """Check a whole model repository: contracts, configurations, graphs and their outputs."""
    from rich.console import Console

    from export.check import check_repository
    from export.check.findings import summary, table
    from export.pictures import Evidence

    findings = check_repository(repository, Evidence(images, data=data), run)
    Console().print(table(findings))
    typer.echo(summary(findings))
    if any(finding.status == "failed" for finding in findings):
        raise typer.Exit(1)
