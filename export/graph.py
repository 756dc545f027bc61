"""The checkpoint as an ONNX graph: uint8 pixels in, scores out, everything in between inside."""

import json
import warnings
from pathlib import Path

import onnx
import torch
from torch import nn

from labelwise.spec import TaggerSpec
from training.model import Tagger

OPSET = 18


class ServingGraph(nn.Module):
    """What is served: the tagger with its input as decoders give it and its scores as clients want them."""

    def __init__(self, tagger: Tagger) -> None:
        super().__init__()
        self.tagger = tagger

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """image uint8 [b, h, w, 3] -> scores [b, l] in 0..1; label-level taggers also give embeddings [b, l, p] and
        attention [b, l, th, tw]."""
        output = self.tagger(image.permute(0, 3, 1, 2))  # b h w c -> b c h w
        scores = output.logits.sigmoid()
        return (scores, output.embeddings, output.attention) if self.tagger.label_level else (scores,)


def write_onnx(tagger: Tagger, spec: TaggerSpec, file: Path) -> None:
    """Export with a dynamic batch and the contract's tensor names; what the tagger is goes into the metadata."""
    example = torch.zeros(2, *spec.input.shape, dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.onnx deprecates its own internals, which no caller can mend
        program = torch.onnx.export(
            ServingGraph(tagger).eval(),
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[spec.input.name],
            output_names=list(spec.output_names),
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=max(spec.max_batch, 2))},),
            verbose=False,
        )
    model = program.model_proto
    _describe(model, spec)
    onnx.checker.check_model(model, full_check=True)
    onnx.save_model(model, file)


def _describe(model: onnx.ModelProto, spec: TaggerSpec) -> None:
    """Let the file speak for itself when it lies somewhere alone, and drop torch's traces of the source code."""
    model.producer_name, _, model.producer_version = spec.producer.partition(" ")
    model.model_version = spec.version
    model.graph.name = spec.name
    for node in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        del node.metadata_props[:]
        node.doc_string = ""
    for initializer in model.graph.initializer:
        del initializer.metadata_props[:]
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    facts = {"labels": list(spec.labels), "thresholds": list(spec.thresholds), "image": spec.image.model_dump()}
    onnx.helper.set_model_props(model, {f"labelwise.{key}": json.dumps(value) for key, value in facts.items()})
