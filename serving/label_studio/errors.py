"""What goes wrong with the two services that the backend talks to."""

from labelwise.errors import LabelwiseError


class ServiceError(LabelwiseError):
    """Label Studio or the gateway does not answer, or refuses. Trying again later may help if `is_temporary`."""

    def __init__(self, message: str, is_temporary: bool = False) -> None:
        super().__init__(message)
        self.is_temporary = is_temporary
