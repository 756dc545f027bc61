"""The verbs of the training stage: train, evaluate, compare, shards, report and synth."""

from pathlib import Path
from typing import Annotated, Literal

import typer

# Arguments and options of several verbs.
Labelled = Annotated[str, typer.Argument(help="Labelled photos, as for train.")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="A setting as key=value in YAML, such as lr=0.0003 or image.mean=[0.5,0.5,0.5]; repeatable."
    ),
]
SkipBroken = Annotated[bool, typer.Option("--skip-broken", help="Leave out missing and broken photos.")]
Background = Annotated[Path | None, typer.Option(help="A folder of photos that have none of the labels.")]
DropAbsent = Annotated[bool, typer.Option("--drop-absent", help="Leave out labels that no training photo has.")]


def train(
    data: Annotated[
        str,
        typer.Argument(
            help="A CSV, JSONL or COCO JSON, a folder per label, an export of an annotation tool, or shards."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the run: checkpoint, contract, history, report.")],
    preset: Annotated[
        str | None,
        typer.Option(
            help="pretrained; everyday (few photos); small or tiny (from scratch); paper (GPUs). "
            "[default: pretrained, without --config]"
        ),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A YAML file of settings, which override the preset's.")] = None,
    set_: Settings = None,
    method: Annotated[str | None, typer.Option(help="bce, supcon, label-bce or mulcon. [default: mulcon]")] = None,
    seed: Annotated[int | None, typer.Option(help="Random seed. [default: 0]")] = None,
    compile_: Annotated[bool, typer.Option("--compile", help="Compile the model with torch.compile.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Resume the run in --out.")] = False,
    skip_broken: SkipBroken = False,
    drop_absent: DropAbsent = False,
    background: Background = None,
    report: Annotated[bool, typer.Option(help="Write report.html at the end.")] = True,
) -> None:
    """Train a tagger: classification first, then the label-level contrastive loss. Ctrl-C saves; --resume continues."""
    from training.data.layouts import require_data

    require_data(data)  # before torch is imported, which takes seconds
    from training.checkpoint import trained_image
    from training.config_layers import make_config
    from training.training_run import RunOptions, train_run

    options = {"method": method, "seed": seed, "compile": compile_ or None}
    settings = [*(set_ or []), *(f"{key}={value}" for key, value in options.items() if value is not None)]
    preset = preset or ("pretrained" if config is None else None)
    made = make_config(settings, preset, config, trained_image(out) if resume else None)
    train_run(data, out, made, RunOptions(resume, skip_broken, drop_absent, report), background)


def evaluate(
    source: Annotated[Path, typer.Argument(help="Folder of a trained run, or a model repository.")],
    data: Labelled,
    split: Annotated[
        Literal["train", "val", "all"] | None,
        typer.Option(help="Which part of the data to use. [default: val, or train if there is no val]"),
    ] = None,
    thresholds: Annotated[
        str | None, typer.Option(help="Fit the thresholds again on these photos: f1, precision=0.9 or recall=0.9.")
    ] = None,
    write: Annotated[bool, typer.Option("--write", help="Store the new thresholds in the run's tagger.json.")] = False,
    json_: Annotated[Path | None, typer.Option("--json", help="Also write everything to this file.")] = None,
    skip_broken: SkipBroken = False,
    background: Background = None,
    model: Annotated[
        str | None, typer.Option(help="Which tagger of a repository. [default: the only one, or everyday]")
    ] = None,
    precision: Annotated[
        Literal["fp32", "fp16", "int8"] | None,
        typer.Option(help="Which graph of a tagger in a repository. [default: the most exact]"),
    ] = None,
) -> None:
    """Measure a run or an exported tagger on labelled photos, per label and overall."""
    from rich.console import Console

    from training.evaluate import evaluate_tagger, headline, label_table, metric_table, write_json

    evaluation = evaluate_tagger(source, data, split, thresholds, write, skip_broken, background, model, precision)
    Console().print(label_table(evaluation), metric_table(evaluation), headline(evaluation))
    if json_:
        write_json(evaluation, json_)


def compare(
    data: Labelled,
    out: Annotated[Path, typer.Option(help="Folder for the runs and results.{md,json,svg}.")],
    methods: Annotated[
        str,
        typer.Option(
            help="Names separated by commas: bce, supcon, label-bce, mulcon and more; an unknown name lists all."
        ),
    ] = "bce,supcon,label-bce,mulcon",
    seeds: Annotated[int, typer.Option(min=1, help="Runs per method.")] = 3,
    preset: Annotated[str, typer.Option(help="Preset that every run uses.")] = "tiny",
    set_: Settings = None,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at the same time; they share the cores.")] = 1,
    skip_broken: SkipBroken = False,
    drop_absent: DropAbsent = False,
    background: Background = None,
) -> None:
    """Train several methods with one preset and several seeds, and show what each step of the paper's method adds."""
    from training.compare import Comparison, claims, table
    from training.compare import compare as compare_methods
    from training.training_run import RunOptions

    options = RunOptions(resume=True, skip_broken=skip_broken, drop_absent=drop_absent, report=False, quiet=True)
    names = tuple(name.strip() for name in methods.split(",") if name.strip())
    comparison = Comparison(data, out, names, seeds, preset, tuple(set_ or ()), background, options)
    runs = compare_methods(comparison, jobs)
    typer.echo("\n".join([*table(runs), *claims(runs), f"Written to {out}: results.md, results.json, results.svg."]))


def shards(
    data: Annotated[Path, typer.Argument(help="Labelled photos, as for train.")],
    to: Annotated[Path, typer.Option(help="New folder for the shards and their dataset.json.")],
    shard_mb: Annotated[int, typer.Option(min=1, help="Approximate size of a shard in megabytes.")] = 256,
    skip_broken: SkipBroken = False,
    background: Background = None,
) -> None:
    """Write labelled photos as WebDataset shards, which train can stream when the data does not fit on a disk."""
    from training.data.shard_writer import make_shards

    make_shards(data, to, shard_mb * 1_000_000, skip_broken, background)


def report(
    run: Annotated[Path, typer.Argument(help="Folder of a trained run.")],
    data: Annotated[str, typer.Argument(help="The labelled photos that it was trained on.")],
    skip_broken: SkipBroken = False,
    background: Background = None,
) -> None:
    """Write a run's report.html: curves, labels, the worst mistakes as pictures, and a map of the embeddings."""
    from training.report.page import report_run

    typer.echo(f"Wrote {report_run(run, data, skip_broken, background)}.")


def synth(
    out: Annotated[Path, typer.Argument(help="Folder to write images/ and labels.csv into.")],
    count: Annotated[int, typer.Option(min=10, help="Number of pictures.")] = 500,
    seed: Annotated[int, typer.Option(min=0, help="Random seed; the same seed draws the same pictures.")] = 0,
    labels: Annotated[int, typer.Option(help="Number of labels, 2 to 80: coloured shapes.")] = 24,
    size: Annotated[int, typer.Option(min=16, max=1024, help="Side of the square pictures, in pixels.")] = 128,
    unknown: Annotated[float, typer.Option(min=0, max=0.95, help="Share of the labels to leave unknown.")] = 0,
) -> None:
    """Draw a procedural multi-label data set in seconds, for a first try and for tests."""
    from training.synth import draw_dataset

    draw_dataset(out, count, seed, labels, size, unknown)
    typer.echo(f"Drew {count} pictures with {labels} labels in {out}.")
