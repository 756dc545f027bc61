"""The log: text or JSON, one line per request. It never has a photo, a photo's name or a key."""

import json
import logging
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from serving.processes import log_warnings
from serving.settings import Settings

_requests = logging.getLogger("labelwise.request")
_FACTS = (
    *("request_id", "method", "route", "status", "seconds", "key_name", "model", "version", "images", "problem"),
    *("notes", "trace_id"),
)


def configure_logging(settings: Settings) -> None:
    """Sets up logging for the whole process, on standard error."""
    handler = logging.StreamHandler()
    if settings.log_format == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(TextFormatter("%(asctime)s %(levelname)-7s %(name)s  %(message)s"))
    logging.logProcesses = logging.logMultiprocessing = logging.logThreads = False  # no line shows them
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it warns of each malformed form
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler], force=True)
    log_warnings()


def log_request(facts: Mapping[str, Any], answered: float) -> None:
    """Logs one line about a request that was answered at that Unix time, with those of `facts` that belong there."""
    if _requests.isEnabledFor(logging.INFO):
        told = {name: facts[name] for name in _FACTS if name in facts}
        message = f"{told['method']} {told['route']} {told['status']}"
        # Not `info`, which would spend time on finding the line of code that called it.
        record = _requests.makeRecord(_requests.name, logging.INFO, "", 0, message, (), None, extra={"facts": told})
        record.created, record.msecs = answered, answered % 1 * 1000 // 1
        _requests.handle(record)


class TextFormatter(logging.Formatter):
    """Python's own line, followed by the facts about a request as name=value."""

    def format(self, record: logging.LogRecord) -> str:
        facts = getattr(record, "facts", {})
        shown = [f"{name}={value}" for name, value in facts.items() if name not in ("method", "route", "status")]
        return " ".join([super().format(record), *shown])

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        """Does as Python, which takes a third of a line's time to format the same second again."""
        return f"{_local_second(int(record.created))},{int(record.msecs):03d}"


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time (UTC), level, logger, message, and the facts about a request."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": f"{_utc_second(int(record.created))}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update(getattr(record, "facts", {}))
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


@lru_cache(1)
def _local_second(created: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(created))


@lru_cache(1)
def _utc_second(created: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(created))
