"""Checks, before a version is published, that a Triton will load it and the versions beside it.

A Triton that cannot load one version stays unready, and when it starts it serves no version of that model.
"""

from pathlib import Path

from export.check.configs import check_configs
from export.check.contract import Version, check_files
from labelwise.errors import RepositoryError
from labelwise.repository import model_names, version_folders, weights_file
from labelwise.spec import TaggerSpec


def require_whole(stage: Path, spec: TaggerSpec) -> None:
    """Raises RepositoryError if Triton could not use a configuration, a program or a file under `stage`."""
    version = Version(spec.name, spec.version, spec, weights_file(stage, spec.name, spec.version))
    for each in (*check_configs(stage, {spec.name: spec}), *check_files(stage, version)):
        if each.status == "failed":
            raise RepositoryError(f"Not published: {each.subject}, {each.check}: {each.found}.")


def require_no_strangers(repository: Path, name: str) -> None:
    """Raises RepositoryError if NAME_model or NAME_decode has a version folder that belongs to no version of `name`.

    Triton would load it if it is among the newest; if it is broken, Triton loads no other version of that model either.
    """
    names = model_names(name)
    versions = version_folders(repository / names.ensemble)
    for part in (names.decode, names.model):
        for number in version_folders(repository / part):
            if number not in versions:
                raise RepositoryError(
                    f"Not published: {part}/{number} belongs to no version of {name}, but Triton would load it. "
                    "Move it out of the repository."
                )
