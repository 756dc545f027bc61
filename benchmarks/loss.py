"""Speed-up from handling all labels and pairs at once, forward and backward, in processor time and peak memory.

Compares the contrastive loss with a plain double loop over its anchors, and the classifier and its loss with one linear
layer and one loss per label, as in the authors' code.

    python benchmarks/loss.py [--repeats 5]

Uses float32 on one thread; each measurement runs in its own process. Prints Markdown tables. Linux only, for /proc.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.nn import functional as F

from training.losses import label_supcon

IMAGES, DIM, PROJECTION, TEMPERATURE = 64, 1024, 128, 0.2
PRESENT = {80: 3, 1000: 10}  # labels per image by number of labels; MS-COCO has 80 and 2.9
LONGEST = 20.0  # seconds, after which a measurement is not repeated

Step = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # features [n, l, d], targets [n, l] -> loss


def supcon_at_once(embeddings: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return label_supcon(embeddings, targets, TEMPERATURE)


def supcon_in_a_double_loop(embeddings: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """arXiv 2107.11626, equations 6 and 7, one pair of anchors at a time."""
    anchors = embeddings[targets == 1].unbind()
    labels = (targets == 1).nonzero()[:, 1].tolist()
    total = embeddings.new_zeros(())
    for anchor in range(len(anchors)):
        others, positives = [], []
        for other in range(len(anchors)):
            if other == anchor:
                continue
            others.append(anchors[anchor] @ anchors[other] / TEMPERATURE)
            if labels[other] == labels[anchor]:
                positives.append(others[-1])
        if positives:
            total = total + torch.stack(others).logsumexp(dim=0) - torch.stack(positives).mean()
    return total / len(anchors)


class AtOnce(torch.nn.Module):
    """As in training.model."""

    def __init__(self, labels: int) -> None:
        super().__init__()
        self.classifier = torch.nn.Parameter(torch.randn(labels, DIM) * DIM**-0.5)
        self.bias = torch.nn.Parameter(torch.zeros(labels))

    def forward(self, features: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        logits = (features * self.classifier).sum(dim=-1) + self.bias  # n l d -> n l
        return F.binary_cross_entropy_with_logits(logits, targets)


class LinearPerLabel(torch.nn.Module):
    """As in MulCon's stage two: a layer and a loss per label. `indexed` takes each label's features by index, as there,
    whose backward pass fills a gradient for all labels per label; without it they are unbound once.
    """

    def __init__(self, labels: int, indexed: bool) -> None:
        super().__init__()
        self.indexed = indexed
        self.layers = torch.nn.ModuleList(torch.nn.Linear(DIM, 1) for _ in range(labels))

    def forward(self, features: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        by_label = features.permute(1, 0, 2)  # n l d -> l n d
        parts = by_label if self.indexed else by_label.unbind()
        total = features.new_zeros(())
        for label, layer in enumerate(self.layers):
            logits = layer(parts[label]).squeeze(-1)
            total = total + F.binary_cross_entropy_with_logits(logits, targets[:, label], reduction="sum")
        return total / targets.numel()


def linear_per_label(at_once: AtOnce, indexed: bool) -> LinearPerLabel:
    """With the same weights."""
    module = LinearPerLabel(len(at_once.bias), indexed)
    with torch.no_grad():
        for layer, weight, bias in zip(module.layers, at_once.classifier, at_once.bias, strict=True):
            layer.weight.copy_(weight[None])
            layer.bias.copy_(bias)
    return module


# In each part, training uses the first form; the second is the obvious loop.
PARTS: dict[str, tuple[int, dict[str, Callable[[int], Any]]]] = {
    "The contrastive loss": (
        PROJECTION,
        {
            "all pairs at once": lambda labels: supcon_at_once,
            "double loop": lambda labels: supcon_in_a_double_loop,
        },
    ),
    "The classifier and its loss": (
        DIM,
        {
            "all labels at once": AtOnce,
            "one layer per label, indexed": lambda labels: linear_per_label(AtOnce(labels), indexed=True),
            "one layer per label, unbound": lambda labels: linear_per_label(AtOnce(labels), indexed=False),
        },
    ),
}


class Measurement(NamedTuple):
    seconds: float  # of processor time, forward and backward
    memory: int  # bytes of the peak above what the inputs and weights take
    value: float
    value_64: float  # computed in float64
    anchors: int


def make_inputs(labels: int, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit vectors [n, l, d] and targets [n, l]; the frequency of labels falls as 1 / rank."""
    generator = torch.Generator().manual_seed(0)
    features = F.normalize(torch.randn(IMAGES, labels, dim, generator=generator), dim=-1).requires_grad_()
    frequency = (1 / torch.arange(1, labels + 1)).expand(IMAGES, labels)
    present = torch.multinomial(frequency, PRESENT[labels], generator=generator)
    return features, torch.zeros(IMAGES, labels).scatter_(1, present, 1.0)


def measure(part: str, form: str, labels: int, repeats: int) -> Measurement:
    """Measures in this process, which should have done nothing before."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    dim, forms = PARTS[part]
    step: Step = forms[form](labels)
    features, targets = make_inputs(labels, dim)
    torch.ones(2, requires_grad=True).sum().backward()  # so that autograd's set-up is not measured
    before = reset_peak()
    times: list[float] = []
    while len(times) < repeats and sum(times) < LONGEST:
        features.grad = None
        started = time.process_time()
        loss = step(features, targets)
        loss.backward()
        times.append(time.process_time() - started)
    memory = peak() - before
    with torch.inference_mode():
        if isinstance(step, torch.nn.Module):
            step.double()
        value_64 = step(features.double(), targets.double()).item()
    return Measurement(statistics.median(times), memory, loss.item(), value_64, int(targets.sum()))


def reset_peak() -> int:
    """Returns bytes in memory now. getrusage's peak cannot be reset, and starts from that of the forking process."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


def peak() -> int:
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


def measure_elsewhere(part: str, form: str, labels: int, repeats: int) -> Measurement:
    command = [sys.executable, __file__, "--repeats", str(repeats), "--only", part, form, str(labels)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    print(f"{part}, {form}, {labels} labels: {answer.strip()}", file=sys.stderr)
    return Measurement(*json.loads(answer))


def table_rows(part: str, labels: int, repeats: int) -> list[str]:
    measured = {form: measure_elsewhere(part, form, labels, repeats) for form in PARTS[part][1]}
    ours, loop, *_ = measured.values()
    return [
        f"| {labels:,} | {ours.anchors} | {form} "
        f"| {one.seconds * 1000:,.1f} | {one.seconds / ours.seconds:,.1f} "
        f"| {one.memory / 2**20:,.1f} | {one.memory / ours.memory:,.1f} "
        f"| {abs(one.value - loop.value_64):.1e} | {abs(one.value_64 - loop.value_64):.1e} |"
        for form, one in measured.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs=3, metavar=("PART", "FORM", "LABELS"), help="one measurement, as JSON")
    arguments = parser.parse_args()
    if arguments.only:
        part, form, labels = arguments.only
        print(json.dumps(measure(part, form, int(labels), arguments.repeats)))
        return
    for part in PARTS:
        print(f"\n{part}:\n")
        # "Off" is the distance from the loop, the second form, in float64.
        print("| labels | present | form | time, ms | ratio | memory, MiB | ratio | off in float32 | in float64 |")
        print("|--:|--:|---|--:|--:|--:|--:|--:|--:|")
        for labels in PRESENT:
            print("\n".join(table_rows(part, labels, arguments.repeats)), flush=True)


if __name__ == "__main__":
    main()
