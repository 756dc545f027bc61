"""Randomness that depends only on what it is for: a run, an epoch, a photo."""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derive_seed(*parts: object) -> int:
    """The same 63 bits from the same parts, on every machine."""
    text = " ".join(map(str, parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def step_seed(*place: int) -> int:
    """A seed for one place in a run, such as (seed, epoch, step, rank). No other place has the same."""
    return int(np.random.SeedSequence(place).generate_state(1)[0])


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, NumPy and torch, GPUs included."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


@contextmanager
def seeded(*parts: object) -> Iterator[None]:
    """Seed the global generators of Python, NumPy and torch's CPU by `parts`, and restore them afterwards."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    seed = derive_seed(*parts)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)  # not torch.manual_seed, which would reseed the GPUs as well
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])
