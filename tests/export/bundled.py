"""The bundled repository, written again by today's exporter around its own weights and contracts.

python -m tests.export.bundled      brings the programs and configurations in model_repository/ up to date
"""

import shutil
import sys
import tempfile
from pathlib import Path

from export.publish import publish, staging
from labelwise.repository import Repository

ROOT = Path(__file__).parent.parent.parent
BUNDLED = ROOT / "model_repository"


def write_again(target: Path) -> None:
    """Publishes every bundled version into the new repository `target`, with the exporter's default options."""
    for versions in Repository.open(BUNDLED).taggers.values():
        for version in versions.values():
            with staging(target) as stage:
                for graph in version.spec.graphs:
                    shutil.copyfile(version.weights.with_name(graph.file), stage / graph.file)
                publish(target, stage, version.spec, "onnxruntime")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "repository")
        write_again(target)
        for model in target.iterdir():
            shutil.rmtree(BUNDLED / model.name)
            shutil.copytree(model, BUNDLED / model.name)


if __name__ == "__main__":
    sys.exit(main())
