"""What the process that computes features says to the gateway, which passes a `fault` on to clients."""

import json
from pathlib import Path

import numpy as np

from teaching.feature_process import _answer, _Graphs


def test_what_may_name_paths_is_for_the_log(tmp_path: Path) -> None:
    asked = {"model": "everyday", "version": 1, "weights": "0" * 64}
    said = json.loads(_answer(_Graphs(tmp_path / "gone"), asked, np.zeros((1, 2, 2, 3), np.uint8)))
    assert [*said] == ["log"]
    assert f"There is no model repository at {tmp_path}" in said["log"]
