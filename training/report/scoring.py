"""Running the model over photos, a batch at a time, and keeping only what the page shows."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from labelwise.spec import ImageSpec
from training.data import decode_all

_BATCH = 32

Places = NDArray[np.int64]  # [k, 2], each a photo's row and a label's index


class Scored(NamedTuple):
    """`scores` float32 [n, l], 0..1; `embeddings` float32 [k, p] at the places asked for, None where there are none."""

    scores: NDArray[np.float32]
    embeddings: NDArray[np.float32] | None


def score_photos(model: nn.Module, files: Sequence[Path], image: ImageSpec, places: Places) -> Scored:
    """One pass over `files`. A model with one embedding for all labels has no label-level embeddings."""
    scores, embeddings = [], []
    for start, output in _outputs(model, files, image):
        scores.append(output.logits.float().sigmoid().cpu().numpy())
        if has_label_embeddings(output):
            row, label = places[(places[:, 0] >= start) & (places[:, 0] < start + len(output.logits))].T
            embeddings.append(output.embeddings[row - start, label].float().cpu().numpy())
    return Scored(np.concatenate(scores), np.concatenate(embeddings) if embeddings else None)


def attention_maps(
    model: nn.Module, files: Sequence[Path], image: ImageSpec, labels: Sequence[int]
) -> list[NDArray[np.float32]] | None:
    """For each file the attention [th, tw] of its one label of interest; None for a model without attention."""
    maps: list[NDArray[np.float32]] = []
    for start, output in _outputs(model, files, image):
        if output.attention is None:
            return None
        attention = output.attention.float().cpu().numpy()
        is_shared = attention.shape[1] == 1
        wanted = labels[start : start + len(attention)]
        maps += [attention[row, 0 if is_shared else label] for row, label in enumerate(wanted)]
    return maps


def has_label_embeddings(output: Any) -> bool:
    return output.embeddings is not None and output.embeddings.shape[1] == output.logits.shape[1]


@torch.inference_mode()
def _outputs(model: nn.Module, files: Sequence[Path], image: ImageSpec) -> Iterator[tuple[int, Any]]:
    """The model's output per batch, with the row that the batch begins at; no more than a batch is in memory."""
    device = next(model.parameters()).device
    for start in range(0, len(files), _BATCH):
        pixels = torch.from_numpy(decode_all(files[start : start + _BATCH], image))
        yield start, model(pixels.to(device).permute(0, 3, 1, 2))  # b h w c -> b c h w
