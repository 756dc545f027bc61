"""Folders that other programs keep among photos: thumbnails, previews, recycle bins and snapshots."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

# In lower case: folders of storage systems, operating systems and photo programs. A name with a slash is a folder in a
# folder.
_PROGRAMS = (
    "@eadir",  # Synology: thumbnails
    "@__thumb",  # QNAP: thumbnails
    "@recycle",
    "#recycle",
    "@recently-snapshot",
    "@tmp",
    "#snapshot",
    "~snapshot",
    "$recycle.bin",
    "recycler",
    "system volume information",
    "lost+found",
    "__macosx",
    "network trash folder",
    "temporary items",
    "*.lrdata",  # Lightroom: previews
    "*.photoslibrary/resources",  # Apple Photos: previews
    "appdata_*/preview",  # Nextcloud: previews
)


def program_in(names: Sequence[str], *, start: int = 0) -> str | None:
    """The first of `names`, from `start` on, that is the folder of a program."""
    for at in range(start, len(names)):
        here, in_parent = names[at].lower(), "/".join(names[max(at - 1, 0) : at + 1]).lower()
        if any(fnmatchcase(in_parent if "/" in known else here, known) for known in _PROGRAMS):
            return names[at]
    return None
