"""The errors that end a tagging run. Each message is one line that says how to continue."""

from labelwise.errors import LabelwiseError

RUN_AGAIN = "Once that is fixed, run the same command again: it continues where it stopped."


class UsageError(LabelwiseError):
    """The command cannot run as given, for example because a path does not exist."""

    exit_code = 2


class OutputError(LabelwiseError):
    """The output or its journal cannot be written, or is of something else. It stays as it was."""


class ServerGone(LabelwiseError):
    """The server did not answer within the time that the run may wait. The run can continue later."""
