"""`labelwise train`: settings, data and paths checked before anything slow, then the loop, then the report."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from torch._dynamo.exc import TorchDynamoException

from labelwise.errors import DataError, LabelwiseError
from training.backbone import first_line
from training.checkpoint import STATE_FILE
from training.config import TrainConfig
from training.data import PRESENT, LabelledData, check_photos, read_data
from training.distributed import joined_world
from training.loop import Trainer
from training.report import write_report


@dataclass(frozen=True)
class RunOptions:
    """What a run does beside training; none of it changes what is learned from a photo."""

    resume: bool = False
    skip_broken: bool = False
    drop_absent: bool = False
    report: bool = True
    quiet: bool = False


def train_run(
    source: str | Path, out: Path, config: TrainConfig, options: RunOptions = RunOptions()
) -> dict[str, float]:
    """Train on `source` into the folder `out`; returns the best epoch's val metrics. Raises LabelwiseError."""
    with joined_world() as world, _explained():
        quiet = options.quiet or not world.is_main
        data = prepare_data(source, config, options, quiet, world.size)
        _prepare_folder(out, options.resume)
        if config.batch_size % (world.size * config.accumulate):
            raise LabelwiseError(
                f"batch_size {config.batch_size} cannot be shared by {world.size} processes in {config.accumulate} "
                "parts each: choose a multiple."
            )
        _say(f"{len(data.train)} photos to train on, {len(data.val)} for val, {len(data.labels)} labels.", quiet)
        metrics = Trainer(config, data, out, world, quiet=options.quiet).run()
        if world.is_main and options.report:
            write_report(out, data)
    headline = ", ".join(f"{name} {metrics[name]:.4f}" for name in ("mAP", "LRAP", "CF1", "OF1") if name in metrics)
    _say(f"Best epoch: {headline}. Saved in {out}{', with report.html' if options.report else ''}.", quiet)
    return metrics


def prepare_data(
    source: str | Path, config: TrainConfig, options: RunOptions, quiet: bool = False, processes: int = 1
) -> LabelledData:
    """Read `source` and check all of it: every file, and that each label can be learned. Raises DataError."""
    data = read_data(source, config.seed)
    count = len(data.train) + len(data.val)
    bar = partial(track, description="Reading photos", total=count, transient=True, disable=quiet)
    data = check_photos(
        data,
        skip_broken=options.skip_broken,
        progress=bar,
        image=config.image,
        cache=config.cache,
        processes=processes,
        say=partial(_say, quiet=quiet),
    )
    present = (data.train.targets == PRESENT).any(axis=0)
    absent = [label for label, is_present in zip(data.labels, present, strict=True) if not is_present]
    if absent and not options.drop_absent:
        more = f" and {len(absent) - 10} more" if len(absent) > 10 else ""
        raise DataError(
            f"No photo to train on has the label {', '.join(absent[:10])}{more}: add some, take the label out, or "
            "leave out all such labels with --drop-absent."
        )
    if absent:
        _say(f"Left out, for no photo to train on has them: {', '.join(absent)}.", quiet)
        data = data.select(tuple(np.array(data.labels)[present]))
    return data


@contextmanager
def _explained() -> Iterator[None]:
    """What torch says of a machine that cannot do what was asked, in one line."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise LabelwiseError(
            "The device has no memory left: lower batch_size, raise accumulate, or choose a smaller image or model."
        ) from error
    except TorchDynamoException as error:
        raise LabelwiseError(f"torch.compile fails here ({first_line(error)}): leave out --compile.") from error


def _prepare_folder(out: Path, resume: bool) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LabelwiseError(f"{out} cannot be made a folder: {error.strerror}; choose another --out.") from error
    if (out / STATE_FILE).exists() and not resume:
        raise LabelwiseError(f"{out} already holds a run: add --resume to go on with it, or choose another --out.")


def _say(text: str, quiet: bool) -> None:
    if not quiet:
        print(text, flush=True)
