"""Which device, threads, precision and memory format a run gets."""

import os

import pytest
import torch

from labelwise.errors import LabelwiseError
from training.device import pick_device, pick_memory_format, pick_precision, threads_of_each


@pytest.mark.parametrize("name", ["cuda:99", "abacus"])
def test_a_device_that_is_not_there_is_named(name: str):
    with pytest.raises(LabelwiseError, match=f"'{name}' cannot be used here"):
        pick_device(name)


def test_what_is_asked_for_is_what_runs():
    device = pick_device("cpu")
    assert device.type == "cpu"
    assert pick_precision("fp32", device) is torch.float32
    assert pick_precision("bf16", device) is torch.bfloat16
    assert pick_memory_format("contiguous") is torch.contiguous_format
    assert pick_memory_format("channels_last") is torch.channels_last


def test_threads_follow_the_affinity_and_torchs_own_bound():
    assert threads_of_each(1) == torch.get_num_threads() == 1  # tests/training/conftest.py
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system has no affinity")
    allowed = os.sched_getaffinity(0)
    torch.set_num_threads(64)
    try:
        assert threads_of_each(1) == len(allowed)
        assert threads_of_each(1000) == 1
        os.sched_setaffinity(0, {min(allowed)})
        assert threads_of_each(1) == 1
    finally:
        os.sched_setaffinity(0, allowed)
        torch.set_num_threads(1)
