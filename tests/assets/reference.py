"""Write pytorch_scores.json: what a checkpoint itself, in PyTorch, says of the photographs here.

python tests/assets/reference.py RUN
"""

import json
import sys
from pathlib import Path

import torch

from labelwise.image import load_pixels
from training.checkpoint import load_checkpoint

HERE = Path(__file__).parent


def main(run: Path) -> None:
    tagger, spec = load_checkpoint(run)
    image = spec.image
    scores = {}
    for photo in sorted((HERE / "photos").glob("*.jpg")):
        pixels = load_pixels(photo.read_bytes(), image.height, image.width, image.resize, image.interpolation)
        with torch.inference_mode():
            output = tagger(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None])  # h w c -> 1 c h w
        values = output.logits.sigmoid()[0].tolist()
        scores[photo.name] = {label: round(value, 6) for label, value in zip(spec.labels, values, strict=True)}
    reference = {"weights_sha256": spec.weights_sha256, "scores": scores}
    (HERE / "pytorch_scores.json").write_text(json.dumps(reference, indent=2) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
