"""What can end a tagging run; each message is one line that says how to go on."""

from labelwise.errors import LabelwiseError

GOES_ON = "When that is mended, the same command goes on where it was."


class UsageError(LabelwiseError):
    """The command cannot begin as it was given: no such path, no such output. Exit code 2."""


class OutputError(LabelwiseError):
    """The output or its journal cannot be written or does not fit; what was there is as it was."""


class ServerGone(LabelwiseError):
    """The server stayed away for longer than the run was told to wait; the run can go on later."""
