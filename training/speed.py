"""Chooses a run's precision and memory format by a short measurement of its own network."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from training.checkpoint import load_state
from training.config import TrainConfig
from training.device import has_bf16, pick_device, pick_memory_format, pick_precision
from training.distributed import World, gather_objects
from training.memory import keep_freed_memory, return_freed_memory
from training.model import TaggerNetwork

# Both orders are of preference. A choice further back must be clearly faster: so that chance does not decide between
# two that are alike, and because float32 is the more exact one.
_PRECISIONS = ("fp32", "bf16")
_FORMATS = ("channels_last", "contiguous")
_CLEARLY = 1.1

_BATCH = 4  # ranks the choices as 32 does
_MOST_ROUNDS, _SECONDS = 6, 2.0
_WORDS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16", "channels_last": "channels last"}


class Choice(NamedTuple):
    """A precision and a memory format, as the settings of these names have them."""

    precision: str
    memory_format: str

    def __str__(self) -> str:
        return ", ".join(_WORDS.get(name, name) for name in self)


def settle(config: TrainConfig, labels: int, runs: Sequence[Path], world: World = World()) -> tuple[TrainConfig, str]:
    """`config` with a precision and a memory format in place of `auto`, and a line for the user.

    If one of the folders `runs` holds a run, its choice is kept, so that it can be resumed. Otherwise, on a CPU, each
    possible choice trains a copy of the network, which has this number of `labels`, for some steps. Elsewhere precision
    is bfloat16 if the device has it, and the memory format is channels last.
    All processes of `world` get the choice of rank 0.
    """
    chosen = _choose(config, labels, runs) if world.is_main else None
    choice, said = gather_objects(chosen, world)[0]
    return config.model_copy(update=choice._asdict()), f"Computes in {said}."


def _choose(config: TrainConfig, labels: int, runs: Sequence[Path]) -> tuple[Choice, str]:
    kept = _kept(runs)
    given = Choice(*(kept[name] if value == "auto" and name in kept else value for name, value in _asked(config)))
    choices = _possible(given, config)
    if len(choices) == 1:
        return choices[0], f"{choices[0]}{', as before' * bool(kept)}"
    rates = _rates(config, labels, choices)
    return_freed_memory()  # or the loader's workers would share it
    best = _fastest(rates)
    others = "; ".join(f"{choice} {rate:.1f}" for choice, rate in rates.items() if choice != best)
    return best, f"{best}: {rates[best]:.1f} images/s per core in a short test ({others})"


def _asked(config: TrainConfig) -> list[tuple[str, str]]:
    return [("precision", config.precision), ("memory_format", config.memory_format)]


def _kept(runs: Sequence[Path]) -> dict[str, Any]:
    """The settings of the first run in these folders. Raises LabelwiseError if its state is damaged."""
    states = (load_state(run) for run in runs)
    return next((state["settings"] for state in states if state is not None), {})


def _possible(given: Choice, config: TrainConfig) -> list[Choice]:
    """What `auto` leaves open, in order of preference."""
    device = pick_device(config.device)
    precisions, formats = _PRECISIONS if has_bf16(device) else _PRECISIONS[:1], _FORMATS
    if device.type != "cpu":  # not measured
        precisions = precisions[-1:]
    if device.type != "cpu" or config.model.freeze:  # a frozen backbone computes its features before training
        formats = formats[:1]
    return [
        Choice(precision, memory_format)
        for precision in (precisions if given.precision == "auto" else [given.precision])
        for memory_format in (formats if given.memory_format == "auto" else [given.memory_format])
    ]


def _rates(config: TrainConfig, labels: int, choices: list[Choice]) -> dict[Choice, float]:
    """For each of `choices`, images per second of processor time, forward and backward.

    That is the best of some rounds, in which the choices take turns. On one thread, other work on the cores changes it
    little; several would wait for one another.
    """
    keep_freed_memory()  # as in training
    model = config.model.model_copy(update={"pretrained": False, "weights": None})
    network = TaggerNetwork(labels, config.image, model, config.method).train()
    network.backbone.requires_grad_(not model.freeze)
    inputs, threads = _inputs(network, config), torch.get_num_threads()
    torch.set_num_threads(1)
    rates, started = dict.fromkeys(choices, 0.0), time.perf_counter()
    for number in range(_MOST_ROUNDS + 1):
        for choice in choices:
            rate = _rate(network, inputs, choice)
            if number:  # the first round is a warm-up: kernels are made, memory is mapped
                rates[choice] = max(rates[choice], rate)
        if number and time.perf_counter() - started > _SECONDS:
            break
    torch.set_num_threads(threads)
    return rates


def _inputs(network: TaggerNetwork, config: TrainConfig) -> torch.Tensor:
    """A small batch of pixels uint8 [b, 3, h, w]; with a frozen backbone, a whole one of its features [b, t, c]."""
    size = config.batch_size // config.accumulate
    pixels = torch.randint(0, 256, (min(size, _BATCH), 3, config.image.height, config.image.width), dtype=torch.uint8)
    if not config.model.freeze:
        return pixels
    return network.tokens(pixels[:1]).repeat(size, 1, 1)  # 1 t c -> b t c


def _rate(network: TaggerNetwork, inputs: torch.Tensor, choice: Choice) -> float:
    """Images per second of processor time of one forward and backward pass."""
    precision = pick_precision(choice.precision, torch.device("cpu"))
    memory_format = pick_memory_format(choice.memory_format)
    network.to(memory_format=memory_format)  # type: ignore[call-overload]
    network.zero_grad()
    if inputs.ndim == 4:
        inputs = inputs.contiguous(memory_format=memory_format)
    started = time.process_time()
    with torch.autocast("cpu", precision, enabled=precision != torch.float32):
        output = network(inputs)
    loss = sum(part.float().square().mean() for part in output[:2] if part is not None)
    loss.backward()
    return len(inputs) / (time.process_time() - started)


def _fastest(rates: dict[Choice, float]) -> Choice:
    """The first choice, unless one after it is clearly faster."""
    best, *others = rates
    for choice in others:
        if rates[choice] > _CLEARLY * rates[best]:
            best = choice
    return best
