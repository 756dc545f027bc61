"""Every command in docs/api.md runs and answers as printed."""

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.conftest import ROOT
from tests.test_readme import run

TEXT = (ROOT / "docs/api.md").read_text()
COMMANDS = re.findall(r"^```bash\n(.*?)^```$(?:\n+^```json\n(.*?)^```$)?", TEXT, flags=re.MULTILINE | re.DOTALL)


def assert_alike(found: Any, printed: Any) -> None:
    """Compares shape and words, and scores to three digits; ignores request ids and lists of formats."""
    if isinstance(printed, dict):
        assert found.keys() == printed.keys()
        for key in printed.keys() - {"request_id"}:
            assert_alike(found[key], printed[key])
    elif isinstance(printed, list):
        assert len(found) == len(printed)
        for pair in zip(found, printed, strict=True):
            assert_alike(*pair)
    elif isinstance(printed, float):
        assert found == pytest.approx(printed, abs=1e-3)
    elif isinstance(printed, str):
        assert re.sub(r"\(.*\)", "", found) == re.sub(r"\(.*\)", "", printed)
    else:
        assert found == printed


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
@pytest.mark.parametrize(("command", "printed"), COMMANDS)
def test_every_command_answers_as_printed(exact_gateway_url: str, tmp_path: Path, command: str, printed: str) -> None:
    command = command.replace("http://127.0.0.1:8000", exact_gateway_url).replace(
        "seen.png", str(tmp_path / "seen.png")
    )
    answer = run(["bash", "-ec", command], ROOT)
    if "seen.png" in command:
        with Image.open(tmp_path / "seen.png") as picture:
            assert picture.format == "PNG"
        return
    found = json.loads(answer)
    if printed:
        assert_alike(found, json.loads(printed))
    else:
        assert "code" not in found


def test_the_program_prints_what_the_document_says(exact_gateway_url: str) -> None:
    (program,) = re.findall(r"^```python\n(.*?)^```$", TEXT, flags=re.MULTILINE | re.DOTALL)
    printed = run([sys.executable, "-c", program.replace("http://127.0.0.1:8000", exact_gateway_url)], ROOT).strip()
    assert f"prints `{printed}`" in TEXT


def test_every_file_it_links_to_is_there() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", TEXT)
    assert links
    assert not [link for link in links if not (ROOT / "docs" / link).exists()]
