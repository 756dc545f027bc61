"""The checkpoint as an ONNX graph: uint8 pixels in, scores out, normalisation inside."""

import logging
import warnings
from functools import partial
from pathlib import Path

import torch
from torch import nn

from export.half_storage import in_halves
from export.metadata import describe
from export.onnx_file import OPSET, Outputs, Pixels, Runner, save_model
from export.simplify import simplify
from export.source import Source
from labelwise.spec import TrainedSpec
from training.checkpoint import load_checkpoint
from training.model import TaggerNetwork


class ServingGraph(nn.Module):
    """The network as it is served: it takes what decoders give, and returns the outputs that `spec` names."""

    def __init__(self, tagger: TaggerNetwork, spec: TrainedSpec) -> None:
        super().__init__()
        self.tagger, self.names = tagger, spec.output_names

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """image uint8 [b, h, w, 3] -> scores [b, l] in 0..1, embeddings [b, l, p], attention [b, l, th, tw]."""
        pixels = image.float()  # first: TensorRT can do nothing else with uint8
        output = self.tagger(pixels.permute(0, 3, 1, 2))  # b h w c -> b c h w
        served = {
            "scores": output.logits.sigmoid(),
            "embeddings": output.embeddings,
            "attention": output.attention,
        }
        return tuple(served[name] for name in self.names)


def open_run(run: Path) -> Source:
    """Opens the checkpoint in the folder `run`. Raises LabelwiseError if it holds none, or a broken one."""
    tagger, spec = load_checkpoint(run)
    return Source(spec, partial(write_onnx, tagger, spec), checkpoint_runner(tagger, spec), "the checkpoint")


def write_onnx(tagger: TaggerNetwork, spec: TrainedSpec, name: str, version: int, file: Path) -> None:
    """Exports with a dynamic batch and the contract's tensor names; the contract goes into the metadata.

    Weights that training rounded to float16 are stored so.

    `name` and `version` are those that it is published under. Raises GraphError, and OSError if the disk is full.
    """
    served = ServingGraph(tagger, spec).eval()
    example = torch.zeros(2, *spec.input.shape, dtype=torch.uint8)
    logging.getLogger("onnxscript").setLevel(logging.ERROR)  # it warns about every node that it does not fold
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.onnx uses deprecated functions of its own
        program = torch.onnx.export(
            served,
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[spec.input.name],
            output_names=list(spec.output_names),
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=max(spec.max_batch, 2))},),
            verbose=False,
        )
    weights = {name: tensor.numpy() for name, tensor in served.state_dict().items()}
    model = in_halves(simplify(program.model_proto), weights)
    describe(model, spec, name, version, {"torch": torch.__version__.partition("+")[0]})
    save_model(model, file)


def checkpoint_runner(tagger: TaggerNetwork, spec: TrainedSpec) -> Runner:
    """The checkpoint as a function of pixels, to compare the exported graph with."""
    graph = ServingGraph(tagger, spec).eval()

    def run(pixels: Pixels) -> Outputs:
        with torch.inference_mode():
            outputs = graph(torch.from_numpy(pixels))
        return {name: output.numpy() for name, output in zip(spec.output_names, outputs, strict=True)}

    return run
