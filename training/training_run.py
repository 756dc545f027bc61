"""`labelwise train`: checks settings, lists and paths, then every photo; runs the loop; writes the report."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from torch._dynamo.exc import TorchDynamoException

from labelwise.errors import DataError, LabelwiseError
from labelwise.files import left_aside, locked_folder
from labelwise.label_names import some
from labelwise.spec import SPEC_FILE
from training.backbone import describe_input, describe_start, feature_shape, first_line, make_backbone
from training.checkpoint import REPORT_FILE, STAGE_1_FILE, STATE_FILE, WEIGHTS_FILE
from training.config import TrainConfig
from training.data.labelled_data import PRESENT, LabelledData, check_case
from training.data.layouts import read_data
from training.data.photo_check import check_photos
from training.device import pick_device
from training.distributed import World, joined_world
from training.evidence_fit import fit_run, photos_needed, with_class_labels
from training.loop import Trainer
from training.memory import keep_freed_memory
from training.metrics import HEADLINE
from training.speed import settle


@dataclass(frozen=True)
class RunOptions:
    """What a run does besides training. No option changes what is learned from a photo.

    `features` is the folder in which runs share the features of their frozen backbone.
    """

    resume: bool = False
    skip_broken: bool = False
    drop_absent: bool = False
    report: bool = True
    quiet: bool = False
    features: Path | None = None


def train_run(
    source: str | Path,
    out: Path,
    config: TrainConfig,
    options: RunOptions = RunOptions(),
    background: Path | None = None,
) -> dict[str, float]:
    """Train on `source` and the photos of `background`, which have none of its labels, into the folder `out`.

    Returns the val metrics of the best epoch. Raises LabelwiseError.
    """
    with joined_world(config.device) as world, _explained():
        quiet = options.quiet or not world.is_main
        check_config(config, world)
        if pick_device(config.device, world).type == "cpu":
            keep_freed_memory()
        _say(describe_start(config.model), quiet)  # reads the weights, so a damaged package is named before the data
        _say(describe_input(config), quiet)
        data = read_data(source, config.seed, background)
        with _own_folder(out, options, world):
            data = prepare_data(data, config, options, quiet, world.size)
            _say(f"{len(data.train)} photos to train on, {len(data.val)} for val, {len(data.labels)} labels.", quiet)
            if config.model.head == "class-evidence":
                metrics = fit_run(config, data, out, quiet)
            else:
                config, computing = settle(config, len(data.labels), [out], world)
                _say(computing, quiet)
                if config.compile:
                    _say("The first steps compile the model, which takes minutes on a CPU.", quiet)
                metrics = Trainer(config, data, out, world, options.quiet, options.features).run()
            headline = ", ".join(f"{name} {metrics[name]:.4f}" for name in HEADLINE if name in metrics)
            _say(f"Best epoch: {headline}. Saved in {out}.", quiet)
            if world.is_main and options.report:
                _report(out, data, f"{source} --background {background}" if background else str(source))
    return metrics


def check_config(config: TrainConfig, world: World = World()) -> None:
    """Check what does not depend on the data: device, batch size, network. Raises LabelwiseError."""
    if config.batch_size % (world.size * config.accumulate):
        raise LabelwiseError(
            f"batch_size {config.batch_size} cannot be shared by {world.size} processes in {config.accumulate} parts "
            "each: choose a multiple."
        )
    if world.size > 1 and (config.model.freeze or config.model.head == "class-evidence"):
        raise LabelwiseError("model.freeze and class-evidence train in one process: leave out torchrun.")
    pick_device(config.device, world)
    backbone = make_backbone(config.model.model_copy(update={"pretrained": False}))
    feature_shape(backbone, config.image, config.model)


def _report(out: Path, data: LabelledData, source: str) -> None:
    """The run is complete by now. An error here must not suggest otherwise."""
    from training.report.page import write_report  # its plotting libraries take a second to import

    try:
        print(f"Wrote {write_report(out, data)}.", flush=True)
    except LabelwiseError as error:
        raise LabelwiseError(
            f"The run is complete, but its report failed: {error} Later: labelwise report {out} {source}"
        ) from error


def prepare_data(
    data: LabelledData, config: TrainConfig, options: RunOptions, quiet: bool = False, processes: int = 1
) -> LabelledData:
    """Check every file of `data`, and that each label can be learned. Raises DataError."""
    check_case(data)
    data = check_photos(
        data,
        skip_broken=options.skip_broken,
        progress=partial(track, description="Reading photos", transient=True, disable=quiet),
        image=config.image,
        cache=config.cache,
        processes=processes,
        say=partial(_say, quiet=quiet),
    )
    data = with_class_labels(data, config.model)
    needed = photos_needed(config.model, data.labels)
    enough = (data.train.targets == PRESENT).sum(axis=0) >= needed
    lacking = [label for label, is_enough in zip(data.labels, enough, strict=True) if not is_enough]
    too_few = "no photo to train on has" if needed.max() == 1 else f"fewer than {needed.max()} photos to train on have"
    if lacking and not options.drop_absent:
        raise DataError(
            f"{too_few.capitalize()} the label {some(lacking)}: add some, take the label out, or leave out all such "
            "labels with --drop-absent."
        )
    if lacking:
        _say(f"Left out, because {too_few} them: {', '.join(lacking)}.", quiet)
        data = data.select(tuple(np.array(data.labels)[enough]))
    in_val = (data.val.targets == PRESENT).any(axis=0)
    if not in_val.any():
        raise DataError("No photo of val has any of the labels, so nothing can be scored: add photos that have some.")
    if not in_val.all():
        unseen = [label for label, is_there in zip(data.labels, in_val, strict=True) if not is_there]
        _say(f"Not measured, threshold stays 0.5, because no photo of val has them: {some(unseen)}.", quiet)
    return data


@contextmanager
def _explained() -> Iterator[None]:
    """Turn torch's errors about this machine into one line each."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise LabelwiseError(
            "The device has no memory left: lower batch_size, raise accumulate, or choose a smaller image or model."
        ) from error
    except TorchDynamoException as error:
        raise LabelwiseError(f"torch.compile fails here ({first_line(error)}): leave out --compile.") from error
    except RuntimeError as error:
        if "can't allocate memory" not in str(error):
            raise
        raise LabelwiseError("There is not enough memory: choose a smaller batch_size, image or model.") from error


@contextmanager
def _own_folder(out: Path, options: RunOptions, world: World) -> Iterator[None]:
    """Hold the run's folder: writable, and locked against other processes. Raises LabelwiseError."""
    if not world.is_main:
        yield
        return
    is_new = not out.exists()
    with ExitStack() as held:
        try:
            out.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=out).close()
            held.enter_context(locked_folder(out, wait=False))
        except BlockingIOError as error:
            raise LabelwiseError(
                f"{out} is being trained by another process: wait, or choose another --out."
            ) from error
        except OSError as error:
            raise LabelwiseError(f"{out} cannot be written: {error.strerror}; choose another --out.") from error
        try:
            _claim(out, options)
            yield
        finally:
            if is_new and not any(out.iterdir()):
                out.rmdir()  # nothing was saved


def _claim(out: Path, options: RunOptions) -> None:
    if any((out / name).exists() for name in (STATE_FILE, SPEC_FILE)) and not options.resume:
        raise LabelwiseError(f"{out} already holds a run: add --resume to go on with it, or choose another --out.")
    if options.resume and not (out / STATE_FILE).exists():
        _say(f"{out} holds no run to go on with: this one starts from the beginning.", options.quiet)
    for name in (WEIGHTS_FILE, STAGE_1_FILE, STATE_FILE, SPEC_FILE, REPORT_FILE):
        for aside in left_aside(out / name):  # left by a process that was killed while saving; no other one runs here
            aside.unlink()


def _say(text: str, quiet: bool) -> None:
    if not quiet:
        print(text, flush=True)
