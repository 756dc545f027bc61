"""An environment per peer, made from its requirements and kept until they change."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "requirements"
ENVIRONMENTS = HERE / ".environments"


class NotMeasured(Exception):
    """A peer cannot be installed, started or asked; the text says why."""


def python_of(name: str) -> Path:
    """Returns the Python of a peer's environment, which is made if it is missing or outdated. Raises NotMeasured."""
    wanted = f"{sys.version}\n{(REQUIREMENTS / f'{name}.txt').read_text()}"
    folder = ENVIRONMENTS / name
    python, made_of = folder / "bin" / "python", folder / "made-of.txt"
    if not (made_of.is_file() and made_of.read_text() == wanted):
        print(f"installing {name} …", file=sys.stderr)
        _run(sys.executable, "-m", "venv", "--clear", str(folder))
        _run(str(python), "-m", "pip", "install", "-q", "-r", str(REQUIREMENTS / f"{name}.txt"))
        made_of.write_text(wanted)
    return python


def version_of(package: str, environment: str) -> str:
    """Returns the version that an environment's requirements pin of a package."""
    for line in (REQUIREMENTS / f"{environment}.txt").read_text().splitlines():
        name, _, pin = line.partition(";")[0].partition("==")
        if name == package:
            return pin.strip()
    raise KeyError(package)


def _run(*command: str) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise NotMeasured(f"not installed: {done.stdout.strip().splitlines()[-1]}")
