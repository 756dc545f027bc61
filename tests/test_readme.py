"""README's code blocks do what they say, except `sh` blocks: they install, or serve without end; CI runs them.

test_pipeline.py goes README's way from labels to a repository.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.polling import PATIENCE

README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


[ANSWER] = map(json.loads, blocks("json"))


def run(command: list[str], folder: Path) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_curl_answers_as_printed(bundled_gateway_url: str) -> None:
    (command,) = [block for block in blocks("bash") if block.startswith("curl")]
    answer = json.loads(run(["bash", "-c", command.replace("http://127.0.0.1:8000", bundled_gateway_url)], ROOT))
    assert answer["model"] == ANSWER["model"]
    assert [tag["label"] for tag in answer["tags"]] == [tag["label"] for tag in ANSWER["tags"]]
    for found, shown in zip(answer["tags"], ANSWER["tags"], strict=True):
        assert found["score"] == pytest.approx(shown["score"], abs=0.02)  # fp32 or int8 runs, whichever is faster here
        assert found["threshold"] == shown["threshold"]
    assert answer.keys() == ANSWER.keys()


def test_the_table_beside_the_photo_shows_the_answer() -> None:
    rows = re.findall(r"<tr><td>(.+)</td><td>(.+)</td></tr>", README)
    assert rows == [(tag["label"], f"{tag['score']:.2f}") for tag in ANSWER["tags"]]
    [pictured] = re.findall(r'<img src="([^"]+)"', README)
    assert f"@{pictured} " in README


def test_tagging_many_photos(tmp_path: Path) -> None:
    (command,) = [block for block in blocks("bash") if block.startswith("labelwise tag ")]
    shutil.copytree(ROOT / "tests/assets/photos-everyday", tmp_path / "tests/assets/photos-everyday")
    (tmp_path / "model_repository").symlink_to(ROOT / "model_repository")
    assert "5 rows" in run(["bash", "-ec", command + " 2>&1"], tmp_path)


def test_the_python_client(bundled_triton: tuple[str, str]) -> None:
    (program,) = blocks("python")
    program = program.replace("127.0.0.1:8001", f"127.0.0.1:{bundled_triton[1]}")
    assert f"[('{ANSWER['tags'][0]['label']}', 0." in run([sys.executable, "-c", program], ROOT)


def test_every_file_it_links_to_is_there() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", README)
    assert links
    assert not [link for link in links if not (ROOT / link).exists()]


def test_every_make_target_is_there() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z]+)", README)) <= targets
