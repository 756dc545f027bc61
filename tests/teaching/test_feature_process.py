"""What the process that computes features says to the gateway, which passes it on to clients."""

import json
from pathlib import Path

import numpy as np
import pytest

from teaching.feature_process import _answer, _Graphs


def test_a_client_reads_no_path_and_the_log_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = {"model": "everyday", "version": 1, "weights": "0" * 64}
    said = json.loads(_answer(_Graphs(tmp_path / "gone"), asked, np.zeros((1, 2, 2, 3), np.uint8)))
    assert said == {"fault": "they could not be computed; the gateway's log says why"}
    assert f"There is no model repository at {tmp_path}" in capsys.readouterr().err
