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
    tensorrt = "tensorrt"


class Precision(str, Enum):
    """What a graph, or a TensorRT plan, computes in."""

    fp32 = "fp32"
    fp16 = "fp16"
    int8 = "int8"


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
    "webdataset": "train",
    "matplotlib": "train",
    "jinja2": "train",
    "tensorboard": "train",
    "yaml": "train",
    "onnx": "onnx",
    "google": "onnx",
    "onnxscript": "export",
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
        str,
        typer.Argument(
            help="CSV, JSONL, COCO JSON, or a folder: with a labels.csv, VOC, NUS-WIDE, shards, one per label."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the run: checkpoint, contract, history, report.")],
    preset: Annotated[
        str | None, typer.Option(help="tiny (CPU, minutes), small (the default) or paper (GPUs).")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A YAML file of settings, over the preset's.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting as key=value, e.g. --set epochs=10 --set model.dim=128; may repeat."),
    ] = None,
    method: Annotated[str | None, typer.Option(help="bce, supcon, label-bce or mulcon. [default: mulcon]")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random. [default: 0]")] = None,
    compile_: Annotated[bool, typer.Option("--compile", help="Compile the model with torch.compile.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    skip_broken: Annotated[bool, typer.Option("--skip-broken", help="Leave out missing and broken photos.")] = False,
    drop_absent: Annotated[
        bool, typer.Option("--drop-absent", help="Leave out labels that no photo to train on has.")
    ] = False,
    report: Annotated[bool, typer.Option(help="Write report.html at the end.")] = True,
) -> None:
    """Train a tagger: classification, then with the label-level contrastive loss. Ctrl-C saves; --resume goes on."""
    from training.loop import Stopped
    from training.run import RunOptions, train_run
    from training.settings import make_config

    options = {"method": method, "seed": seed, "compile": compile_ or None}
    settings = [*(set_ or []), *(f"{key}={value}" for key, value in options.items() if value is not None)]
    try:
        train_run(
            data, out, make_config(settings, preset, config), RunOptions(resume, skip_broken, drop_absent, report)
        )
    except Stopped as stopped:
        print(f"labelwise: {stopped}", file=sys.stderr)
        raise typer.Exit(130) from stopped


@app.command()
def evaluate(
    source: Annotated[Path, typer.Argument(help="Folder of a trained run, or a model repository.")],
    data: Annotated[str, typer.Argument(help="Labelled photos, as for train.")],
    split: Annotated[Split, typer.Option(help="Which part of the data.")] = Split.val,
    thresholds: Annotated[
        str | None, typer.Option(help="Fit them anew on these photos: f1, precision=0.9 or recall=0.9.")
    ] = None,
    write: Annotated[bool, typer.Option("--write", help="Store the new thresholds in the run's tagger.json.")] = False,
    json_: Annotated[Path | None, typer.Option("--json", help="Also write everything into this file.")] = None,
    skip_broken: Annotated[bool, typer.Option("--skip-broken", help="Leave out missing and broken photos.")] = False,
) -> None:
    """Measure a run or an exported tagger on labelled photos, each label and all together."""
    from rich.console import Console

    from training.evaluate import evaluate_tagger, headline, label_table, metric_table, write_json

    evaluation = evaluate_tagger(source, data, split.value, thresholds, write, skip_broken)
    Console().print(label_table(evaluation), metric_table(evaluation), headline(evaluation))
    if json_:
        write_json(evaluation, json_)


@app.command()
def compare(
    data: Annotated[str, typer.Argument(help="Labelled photos, as for train.")],
    out: Annotated[Path, typer.Option(help="Folder for the runs and results.{md,json,svg}.")],
    methods: Annotated[
        str, typer.Option(help="Names by commas: bce, supcon, label-bce, mulcon and more; a wrong one lists them all.")
    ] = "bce,supcon,label-bce,mulcon",
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each method.")] = 3,
    preset: Annotated[str, typer.Option(help="The budget of every run.")] = "tiny",
    set_: Annotated[list[str] | None, typer.Option("--set", help="As for train; applies to every method.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at the same time, on the cores shared between them.")] = 1,
    skip_broken: Annotated[bool, typer.Option("--skip-broken", help="Leave out missing and broken photos.")] = False,
    drop_absent: Annotated[
        bool, typer.Option("--drop-absent", help="Leave out labels that no photo to train on has.")
    ] = False,
) -> None:
    """Train the methods under one budget and several seeds, and say what each step of the paper's method adds."""
    from training.compare import Comparison, claims, table
    from training.compare import compare as compare_methods
    from training.loop import Stopped
    from training.run import RunOptions

    options = RunOptions(resume=True, skip_broken=skip_broken, drop_absent=drop_absent, report=False, quiet=True)
    names = tuple(name.strip() for name in methods.split(",") if name.strip())
    comparison = Comparison(data, out, names, seeds, preset, tuple(set_ or ()), options)
    try:
        runs = compare_methods(comparison, jobs)
    except Stopped as stopped:
        print(f"labelwise: {stopped}", file=sys.stderr)
        raise typer.Exit(130) from stopped
    typer.echo("\n".join([*table(runs), *claims(runs), f"Written to {out}: results.md, results.json, results.svg."]))


@app.command()
def shards(
    data: Annotated[Path, typer.Argument(help="Labelled photos, as for train.")],
    to: Annotated[Path, typer.Option(help="New folder for the shards and their dataset.json.")],
    shard_mb: Annotated[int, typer.Option(min=1, help="About how large a shard becomes, in megabytes.")] = 256,
    skip_broken: Annotated[
        bool, typer.Option("--skip-broken", help="Leave out photos that are missing or broken.")
    ] = False,
) -> None:
    """Write labelled photos as WebDataset shards, which train streams: for more than a disk holds."""
    from training.data.shards import make_shards

    make_shards(data, to, shard_mb * 1_000_000, skip_broken)


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="Folder of a trained run.")],
    data: Annotated[str, typer.Argument(help="The photos it was trained with.")],
    skip_broken: Annotated[bool, typer.Option("--skip-broken", help="Leave out missing and broken photos.")] = False,
) -> None:
    """Write a run's report.html: curves, each label, the worst mistakes as pictures, the embeddings in the plane."""
    from training.report import report_run

    typer.echo(f"Wrote {report_run(run, data, skip_broken)}.")


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
    source: Annotated[Path, typer.Argument(help="Folder of a trained run, or an ONNX file with --spec.")],
    to: Annotated[Path, typer.Option(help="Triton model repository to publish into.")],
    name: Annotated[str, typer.Option(help="Name of the tagger there.")],
    version: Annotated[int | None, typer.Option(min=1, help="Version number; by default the next one.")] = None,
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

    options, plan_precision = make_options(set_ or []), plan.value if plan else None
    target = Target(to, name, version, precision.value, backend.value, options, keep, plan_precision)
    evidence = Evidence(images, calibrate, data)
    spec = _spec_for(source, spec)
    result = export_onnx(source, spec, target, evidence) if spec else export_run(source, target, evidence)
    for difference in result.differences:
        typer.echo(f"{difference.output:<11} batch {difference.batch:<4} differs by at most {difference.value:.1e}")
    for found in (result.quantization, result.change):
        if found:
            typer.echo(found)
    typer.echo(f"Published {result.spec.name} version {result.spec.version} in {to}.")


def _spec_for(source: Path, spec: Path | None) -> Path | None:
    if source.is_file() and spec is None:
        raise LabelwiseError(f"{source} needs --spec: a tagger.json that names its labels and image size.")
    return spec


@app.command()
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

    spec = _spec_for(source, spec)
    opened = open_onnx(source, spec) if spec else open_run(source)
    measured = bench_precisions(opened, Evidence(calibrate=calibrate, data=data), threads)
    Console().print(table(measured))
    if out:
        out.write_text(markdown(measured), "utf-8")


@app.command()
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
    keys: Annotated[Path | None, typer.Option(help="File of API keys, by `labelwise keys`: requests need one.")] = None,
    insecure_no_keys: Annotated[
        bool | None, typer.Option("--insecure-no-keys", help="Serve whoever asks, also beyond this machine.")
    ] = None,
) -> None:
    """Serve a model repository over HTTP, with a page to try it. More settings: LABELWISE_* in the environment."""
    from serving.run import run
    from serving.settings import load_settings

    exposure = {"host": host, "port": port, "keys": keys, "insecure_no_keys": insecure_no_keys}
    run(load_settings(repository=repository, engine=engine, triton_url=triton_url, **exposure))


keys_app = typer.Typer(help="API keys of the gateway: a file of names and hashes.", no_args_is_help=True)
app.add_typer(keys_app, name="keys")
KeyFile = Annotated[Path, typer.Option("--keys", envvar="LABELWISE_KEYS", help="The key file.")]
_KEY_FILE = Path("labelwise.keys")


@keys_app.command("add")
def add_key(
    name: Annotated[str, typer.Argument(help="Whose key it is, or what for: it stands in the log.")],
    keys: KeyFile = _KEY_FILE,
) -> None:
    """Make a key and print it: this once, for only its hash is kept."""
    from serving import keys as key_file

    typer.echo(key_file.add_key(keys, name))
    typer.echo(f"Keep it: it is not shown again. `labelwise serve --keys {keys}` takes it now.", err=True)


@keys_app.command("list")
def list_keys(keys: KeyFile = _KEY_FILE) -> None:
    """The names of the keys, and when they were made."""
    from serving import keys as key_file

    for key in key_file.read_keys(keys):
        typer.echo(f"{key.name}  {key.made}".rstrip())


@keys_app.command("revoke")
def revoke_key(
    name: Annotated[str, typer.Argument(help="The key's name.")],
    keys: KeyFile = _KEY_FILE,
) -> None:
    """Take a key back; running gateways refuse it within a second."""
    from serving import keys as key_file

    key_file.revoke_key(keys, name)
    typer.echo(f"Revoked {name}.")
