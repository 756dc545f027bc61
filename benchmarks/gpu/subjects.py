"""The taggers that are measured: the bundled `everyday`, and an untrained ResNet-50 as the goals name it.

    python -m benchmarks.gpu.subjects FOLDER everyday [--quick]
    python -m benchmarks.gpu.subjects FOLDER resnet50 [--quick]

Writes FOLDER/NAME, a repository that holds only the tagger NAME in all its precisions, and FOLDER/NAME.npy with its
scores of PHOTOS (with --quick, of two) on the CPU in fp32. Prints rows: `work` has the multiply-adds and the bytes of
one photo.
"""

import argparse
import os
import shutil
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu.memory import note_memory
from benchmarks.gpu.tasks import ROOT, emit
from labelwise.files import sha256_of
from labelwise.image import load_pixels
from labelwise.repository import Repository, TaggerVersion, model_names
from labelwise.spec import DataSpec, GraphSpec, ImageSpec, TaggerSpec
from serving.onnx_session import load_session, run_session

PHOTOS = sorted((ROOT / "tests/assets").glob("photos*/*.jpg"))
BUNDLED, RESNET = "everyday", "resnet50"
_MAX_BATCH = 128  # of the ResNet-50
_LABELS = 80  # as COCO has


def read_subject(folder: Path, name: str) -> TaggerVersion:
    """Returns the only version of the tagger `name`, with its most exact graph."""
    (version,) = Repository.open(folder / name).taggers[name].values()
    return version


def pixels_of(spec: TaggerSpec, count: int) -> NDArray[np.uint8]:
    """Returns the first `count` of PHOTOS as the tagger's input [n, h, w, 3]."""
    image = spec.image
    size = (image.height, image.width, image.resize, image.interpolation)
    return np.stack([load_pixels(photo.read_bytes(), *size) for photo in PHOTOS[:count]])


def copy_bundled(folder: Path) -> None:
    for model in model_names(BUNDLED):
        shutil.copytree(ROOT / "model_repository" / model, folder / BUNDLED / model)


def add_half(folder: Path) -> None:
    """Publishes the bundled tagger again, with an fp16 graph that is made from its fp32 one."""
    from export.precision import convert
    from export.publish import publish, staging

    tagger = read_subject(folder, BUNDLED)
    shutil.rmtree(folder / BUNDLED)
    bundled = Repository.open(ROOT / "model_repository", only=BUNDLED).taggers[BUNDLED][tagger.spec.version]
    with staging(folder / BUNDLED) as stage:
        for graph in bundled.spec.graphs:
            shutil.copyfile(bundled.weights.with_name(graph.file), stage / graph.file)
        file = stage / "model.fp16.onnx"
        shutil.copyfile(bundled.weights, file)
        convert(file, bundled.spec, "fp16", None)
        half = GraphSpec(precision="fp16", file=file.name, sha256=sha256_of(file), differences={})
        exact, *coarse = bundled.spec.graphs
        graphs = (exact, half, *coarse)
        publish(folder / BUNDLED, stage, bundled.spec.model_copy(update={"graphs": graphs}), "onnxruntime")


def export_resnet(folder: Path, quick: bool) -> None:
    """Exports an untrained tagger as `labelwise export` would a trained one; a tiny one if `quick`."""
    import torch

    from export.exporting import Target, export_tagger
    from training.checkpoint import WEIGHTS_FILE, make_spec, save_weights
    from training.config import ModelConfig, TrainConfig
    from training.model import TaggerNetwork

    if quick:
        model = ModelConfig(backbone="test_resnet", feature_level=2, dim=16, heads=2, projection_dim=8)
        config = TrainConfig(model=model, image=ImageSpec(height=32, width=32), max_batch=4)
    else:
        model = ModelConfig(backbone="resnet50", feature_level=4)
        config = TrainConfig(model=model, image=ImageSpec(height=224, width=224), max_batch=_MAX_BATCH)
    labels = tuple(f"label {number}" for number in range(_LABELS))
    torch.manual_seed(0)
    network = TaggerNetwork(len(labels), config.image, model)
    run = folder / "run"
    run.mkdir()
    digest = save_weights(run / WEIGHTS_FILE, network.state_dict())
    data = DataSpec(fingerprint="untrained", train_images=0, val_images=0, train_counts={})
    make_spec(config, labels, network.grid, data, [0.5] * len(labels), {}, digest).write(run)
    export_tagger(run, None, Target(folder / RESNET, RESNET, precisions=("fp32",) if quick else ("fp32", "fp16")))


def note_work(tagger: TaggerVersion) -> None:
    from benchmarks.gpu.multiply_adds import count
    from export.onnx_file import load_model

    emit(
        "work",
        tagger=tagger.spec.name,
        backbone=tagger.spec.backbone,
        multiply_adds=count(load_model(tagger.weights)),
        input_bytes=int(np.prod(tagger.spec.input.shape)),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("tagger", choices=(BUNDLED, RESNET))
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    folder, name = arguments.folder, arguments.tagger
    lacks = ""
    note_memory(f"before {name} is made", [os.getpid()])
    if name == RESNET:
        export_resnet(folder, arguments.quick)
    else:
        copy_bundled(folder)
        try:
            add_half(folder)
        except ImportError as error:
            lacks = f"no fp16 graph and no multiply-adds of {name}: {error}: pip install 'labelwise[onnx]'"
    tagger = read_subject(folder, name)
    emit("subject", tagger=name, precisions=[graph.precision for graph in tagger.spec.graphs])
    pixels = pixels_of(tagger.spec, 2 if arguments.quick else len(PHOTOS))
    session = load_session(tagger, 0)
    scores = [run_session(session, tagger.spec, one[np.newaxis], ("scores",))["scores"] for one in pixels]
    np.save(folder / f"{name}.npy", np.concatenate(scores))
    if lacks:
        sys.exit(lacks)
    note_work(tagger)


if __name__ == "__main__":
    main()
