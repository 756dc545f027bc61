"""The errors that end a tagging run. Each message is one line that says how to go on."""

from labelwise.errors import LabelwiseError

GOES_ON = "Once that is fixed, the same command goes on where it was."


class UsageError(LabelwiseError):
    """The command cannot run as given, for example because a path does not exist. Exit code 2."""


class OutputError(LabelwiseError):
    """The output or its journal cannot be written, or is of something else. It stays as it was."""


class ServerGone(LabelwiseError):
    """The server did not answer for as long as the run may wait. The run can go on later."""
