"""The versions of a tagger in the model repository, also those that are not served."""

import contextlib
from collections.abc import Collection
from pathlib import Path

from labelwise.errors import SpecError
from labelwise.repository import version_folders
from labelwise.spec import TaggerSpec
from serving.gateway.answers.teaching import PublishedVersion


def published_versions(repository: Path, name: str, served: Collection[int]) -> list[PublishedVersion]:
    """Reads the contracts of all versions, newest last; leaves broken ones out. Blocking."""
    found = []
    for number, folder in version_folders(repository / name).items():
        with contextlib.suppress(SpecError):
            spec = TaggerSpec.read(folder)
            found.append(
                PublishedVersion(
                    version=number, served=number in served, labels=len(spec.labels), taught=sorted(spec.taught)
                )
            )
    return found
