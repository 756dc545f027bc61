"""The base class of every error that the user can fix."""


class LabelwiseError(Exception):
    """The message is one line that says what is wrong and what to do; the command line prints it before it exits."""

    exit_code = 1


class DataError(LabelwiseError):
    """The labelled data cannot be used: a missing file, an unknown column, a broken image."""


class SpecError(LabelwiseError):
    """A tagger.json is not valid; the message names the field."""


class RepositoryError(LabelwiseError):
    """A model repository cannot be served or written; the message names the missing or wrong part."""
