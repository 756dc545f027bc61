"""The root of every error that is the user's to mend."""


class LabelwiseError(Exception):
    """One line that says what is wrong and what to do about it; the CLI prints it and exits with 1."""


class DataError(LabelwiseError):
    """Labelled data that cannot be used: a missing file, an unknown column, a broken image."""


class SpecError(LabelwiseError):
    """A tagger.json that cannot be trusted; the message names the field."""


class RepositoryError(LabelwiseError):
    """A model repository that cannot be served or written; the message names the missing or wrong part."""
