"""The verbs of export: publish, check and measure."""

import signal
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from labelwise.errors import LabelwiseError


class Backend(str, Enum):
    """The Triton backend of an exported model."""

    onnxruntime = "onnxruntime"
    python = "python"
    tensorrt = "tensorrt"


class Precision(str, Enum):
    """What a graph, or a TensorRT plan, computes in."""

    fp32 = "fp32"
    fp16 = "fp16"
    int8 = "int8"


def export(
    source: Annotated[Path, typer.Argument(help="Folder of a trained run, or an ONNX file with --spec.")],
    to: Annotated[Path, typer.Option(help="Triton model repository to publish into.")],
    name: Annotated[str, typer.Option(help="Name of the tagger there.")],
    version: Annotated[
        int | None, typer.Option(min=1, max=10**15 - 1, help="Version number; by default the next one.")
    ] = None,
    precision: Annotated[
        Precision, typer.Option(help="What it computes in: fp16 is for GPUs, int8 for CPUs and needs --calibrate.")
    ] = Precision.fp32,
    calibrate: Annotated[
        Path | None, typer.Option(help="Photos like those to be tagged, a folder or a list, to calibrate int8 with.")
    ] = None,
    backend: Annotated[
        Backend, typer.Option(help="What runs the model by default; Triton can be told to use the other.")
    ] = Backend.onnxruntime,
    images: Annotated[
        Path | None, typer.Option(help="Photos to check with: a folder or a list. [default: test pictures]")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Labelled photos, as for train: shows what changes in mAP and in tags.")
    ] = None,
    spec: Annotated[
        Path | None, typer.Option(help="tagger.json of an ONNX file that something else made: labels and image.")
    ] = None,
    keep: Annotated[
        int | None, typer.Option(min=1, help="Then remove all but so many versions. [default: all]")
    ] = None,
    plan: Annotated[
        Precision | None, typer.Option(help="Also build a TensorRT plan, for the GPU of this machine.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="How Triton serves it, e.g. --set instances=2 --set device=gpu; may repeat."),
    ] = None,
) -> None:
    """Export a run, or an ONNX file from elsewhere: checked against its origin, published as a Triton repository."""
    from export.pictures import Evidence
    from export.run import Target, export_onnx, export_run, make_options

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: what was begun is cleared away
    options, plan_precision = make_options(set_ or []), plan.value if plan else None
    target = Target(to, name, version, precision.value, backend.value, options, keep, plan_precision)
    evidence = Evidence(images, calibrate, data)
    spec = _spec_for(source, spec)
    result = export_onnx(source, spec, target, evidence) if spec else export_run(source, target, evidence)
    for difference in result.differences:
        typer.echo(f"{difference.output:<11} batch {difference.batch:<4} differs by at most {difference.value:.1e}")
    if target.precision == "fp16":
        typer.echo("These are the differences in half precision, emulated: this CPU computes fp16 in fp32.")
    for found in (result.quantization, result.change):
        if found:
            typer.echo(found)
    typer.echo(f"Published {result.spec.name} version {result.spec.version} in {to}.")


def _spec_for(source: Path, spec: Path | None) -> Path | None:
    if source.is_file() and spec is None:
        raise LabelwiseError(f"{source} needs --spec: a tagger.json that names its labels and image size.")
    return spec


def bench(
    source: Annotated[Path, typer.Argument(help="Folder of a trained run, or an ONNX file with --spec.")],
    calibrate: Annotated[
        Path | None, typer.Option(help="Photos like those to be tagged, a folder or a list; without them no int8.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="Labelled photos, as for train, for the loss in mAP.")] = None,
    spec: Annotated[
        Path | None, typer.Option(help="tagger.json of an ONNX file that something else made: labels and image.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads that compute one batch. [default: all cores]")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Also write the table here, as Markdown.")] = None,
) -> None:
    """Measure fp32, fp16 and int8 on this machine's CPU: speed at batch 1 and 8, and what each loses. No export."""
    from rich.console import Console

    from export.bench import bench_precisions, markdown, table
    from export.pictures import Evidence
    from export.run import open_onnx, open_run

    if out and not out.parent.is_dir():
        raise LabelwiseError(f"There is no folder {out.parent} to write {out.name} into.")
    spec = _spec_for(source, spec)
    opened = open_onnx(source, spec) if spec else open_run(source)
    measured = bench_precisions(opened, Evidence(calibrate=calibrate, data=data), threads)
    Console().print(table(measured))
    if out:
        out.write_text(markdown(measured), "utf-8")


def check(
    repository: Annotated[Path, typer.Argument(help="Triton model repository.")],
    images: Annotated[
        Path | None, typer.Option(help="Photos to check with: a folder or a list. [default: test pictures]")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Labelled photos, as for train: shows mAP, with --run of both.")
    ] = None,
    run: Annotated[Path | None, typer.Option(help="Folder of the trained run to compare with.")] = None,
) -> None:
    """Check a whole repository, whatever wrote it: contracts, configurations, graphs, what they answer."""
    from rich.console import Console

    from export.check import check_repository
    from export.check.findings import summary, table
    from export.pictures import Evidence

    findings = check_repository(repository, Evidence(images, data=data), run)
    Console().print(table(findings))
    typer.echo(summary(findings))
    if any(finding.status == "failed" for finding in findings):
        raise typer.Exit(1)


def add_verbs(app: typer.Typer) -> None:
    for verb in (export, bench, check):
        app.command()(verb)
