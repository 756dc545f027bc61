"""How long to wait before something that ended is started again."""

_FIRST, _LONGEST = 1.0, 30.0  # seconds
_STABLE_AFTER = 60.0  # seconds of life after which an end counts as the first again


class Backoff:
    """Waits of 1, 2, 4 … 30 seconds between restarts; with `at_once`, the first restart does not wait."""

    def __init__(self, *, at_once: bool = False) -> None:
        self._first = 0.0 if at_once else _FIRST
        self._next = self._first

    def after(self, lived: float) -> float:
        """Returns the seconds to wait after a life of `lived` seconds. A long life starts the series again."""
        delay = self._first if lived > _STABLE_AFTER else self._next
        self._next = min(max(2 * delay, _FIRST), _LONGEST)
        return delay
