"""What a Triton of our own is given to load at its start: what is in the repository, without what is broken."""

from collections.abc import Mapping
from pathlib import Path

from labelwise.errors import LabelwiseError
from labelwise.repository import VersionKey, read_version, version_marks
from serving.local_triton.view import TritonView
from serving.watching import RepositoryWatch, log_broken


class TritonOffer:
    """The versions in `repository` that Triton shall load, shown in `view`; `watch` notices changes of them.

    When Triton starts, one broken version takes all versions of its tagger with it, and Triton may hang. So those that
    are not whole are left out, and `leave_out` is for those that only Triton finds broken. Each is logged.
    """

    def __init__(self, repository: Path, workspace: Path, config_name: str | None) -> None:
        self._repository = repository
        self.broken: set[VersionKey] = set()
        self.complaint = "no version is whole"
        try:
            known = set(version_marks(repository))
            self.watch = RepositoryWatch(repository, known)
            self.view = TritonView(repository, workspace, config_name)
            self.leave_out({key: reason for key in sorted(known) if (reason := self._fault(key))})
            for name in sorted({name for name, _ in known}):
                self._show(name)
        except OSError as error:
            raise LabelwiseError(
                f"Triton's copy of {repository} cannot be made in {workspace.parent}: {error.strerror}. "
                "TMPDIR can name another place."
            ) from error

    @property
    def whole(self) -> set[VersionKey]:
        """Those that can be loaded, as far as is known."""
        return self.watch.known - self.broken

    def leave_out(self, broken: Mapping[VersionKey, str]) -> None:
        """Blocks. `broken` are versions, and what is wrong with each."""
        self.broken |= broken.keys()
        for key, reason in broken.items():
            log_broken(key, reason)
            self.complaint = reason
            if key[0] in self.view.names:
                self._show(key[0])

    def _fault(self, key: VersionKey) -> str | None:
        try:
            read_version(self._repository, *key)
        except LabelwiseError as error:
            return str(error)
        return self.view.missing_program(*key)

    def _show(self, name: str) -> None:
        """Of a tagger the versions that its policy wants, chosen from those that are whole."""
        whole = {number for other, number in self.whole if other == name}
        versions = self.view.wanted(name, whole)
        self.view.discard(self.view.show(name, self.view.build(name, versions, whole, set()) if whole else None))
