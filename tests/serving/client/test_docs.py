"""docs/clients.md is true: its programs run, and its links lead somewhere."""

import re
import subprocess
import sys

from serving import errors as client_errors
from serving.client import ClientError
from tests.conftest import ROOT
from tests.polling import PATIENCE

DOCS = (ROOT / "docs/clients.md").read_text()


def test_its_programs_print_tags(triton_url: str) -> None:
    programs = re.findall(r"^```python\n(.*?)^```$", DOCS, flags=re.MULTILINE | re.DOTALL)
    assert len(programs) == 2
    printed = [run(program.replace("grpc://127.0.0.1:8001", triton_url)) for program in programs]
    for text in printed:
        assert re.search(r"sunset-bay-palm.jpg \[.*sunset", text)
    assert "missing.jpg: there is no such file" in printed[0]


def run(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_its_errors_are_ours() -> None:
    named = re.findall(r"`(\w+)`", DOCS.partition("a `ClientError` that says what to do:")[2].partition("\n\n")[0])
    assert len(named) > 5
    for name in named:
        assert issubclass(getattr(client_errors, name), ClientError)


def test_every_file_it_links_to_is_there() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", DOCS)
    assert links
    assert not [link for link in links if not (ROOT / "docs" / link).exists()]
