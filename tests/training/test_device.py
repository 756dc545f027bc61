"""Which device, precision and memory format a run gets."""

import pytest
import torch

from labelwise.errors import LabelwiseError
from training.device import pick_device, pick_memory_format, pick_precision


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
