"""Turns Triton's log lines into ours."""

import logging
import re

_LOG_LINE = re.compile(r"([IWEF])\d{4} [\d:.]+ +\d+ [\w.]+:\d+\] *(.*)")
_LEVELS = {"I": logging.INFO, "W": logging.WARNING, "E": logging.ERROR, "F": logging.CRITICAL}
_NO_GPU = re.compile(
    r"pinned_memory_manager|NVML|DCGM|CudaDriverHelper|CUDA (memory pool disabled|driver version is insufficient)"
)
_PLAIN_ERROR = re.compile(r"error: |.*: unrecognized option|.*error while loading shared libraries")
_UNLOADABLE = re.compile(r"failed to load '([^']+)' version (\d+): (.*)")


def parse_unloadable(message: str) -> tuple[str, int, str] | None:
    """Returns the model and the version that Triton says it cannot load, and why; None for any other message."""
    found = _UNLOADABLE.match(message)
    return (found[1], int(found[2]), first_line(found[3])) if found else None


def first_line(message: str) -> str:
    """Returns the first line of a message. In its log, Triton writes line ends as \\n."""
    return message.partition("\\n")[0].partition("\n")[0][:500]


def parse_line(line: str) -> tuple[int, str]:
    """Returns level and message of one line of the log. That there is no GPU is not worth a warning."""
    if match := _LOG_LINE.match(line):
        level, message = _LEVELS[match[1]], match[2].strip('"')
    else:
        level, message = logging.ERROR if _PLAIN_ERROR.match(line) else logging.INFO, line
    if _NO_GPU.search(line) or not message or message[0] in "+|":  # of which the latter frame tables
        level = logging.DEBUG
    return level, message
