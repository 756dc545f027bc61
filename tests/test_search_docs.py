"""docs/search.md: the example does what it says."""

import re
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.test_readme import run

TEXT = (ROOT / "docs/search.md").read_text("utf-8")


def test_the_example(tmp_path: Path):
    pytest.importorskip("numkong", reason="it needs the extra search")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/assets").symlink_to(ROOT / "tests/assets")
    (tmp_path / "model_repository").symlink_to(ROOT / "model_repository")
    (example,) = re.findall(r"^```bash\n(.*?)^```$", TEXT, flags=re.MULTILINE | re.DOTALL)
    (shown,) = re.findall(r"^```text\n(.*?)^```$", TEXT, flags=re.MULTILINE | re.DOTALL)
    labelwise = f'labelwise() {{ "{sys.executable}" -m labelwise "$@"; }}\n'
    printed = run(["bash", "-ec", labelwise + example], tmp_path).splitlines()[-1]
    assert printed.split("  ")[1] == shown.strip().split("  ")[1]
    # fp32 or int8 runs, whichever is faster here
    assert float(printed.split("  ")[0]) == pytest.approx(float(shown.split("  ")[0]), abs=0.03)
