"""The log's form: with JSON, everything that reaches standard error is JSON."""

import json
import logging
import subprocess
import sys

import pytest

from serving.gateway.observe.logs import JsonFormatter, TextFormatter
from tests.conftest import ROOT

_WARNED = """
import io, sys
from PIL import Image
from labelwise.image import load_pixels
from serving.gateway.observe.logs import configure_logging
from serving.settings import load_settings

configure_logging(load_settings(log_format=sys.argv[1]))
stream = io.BytesIO()
# One EXIF entry is announced, and is not there.
Image.new("RGB", (16, 16)).save(stream, "JPEG", exif=b"Exif\\0\\0II*\\0\\x08\\0\\0\\0\\x01\\0\\x12\\x01")
load_pixels(stream.getvalue(), 16, 16)
"""


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_a_warning_of_pillow_is_one_line_of_the_log(log_format: str):
    command = [sys.executable, "-c", _WARNED, log_format]
    (line,) = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stderr.splitlines()
    if log_format == "json":
        logged = json.loads(line)
        assert (logged["level"], logged["logger"]) == ("warning", "py.warnings")
        line = logged["message"]
    assert "UserWarning: Corrupt EXIF data" in line
    assert ".py" not in line


def test_a_line_has_the_time_of_its_record_to_the_millisecond():
    python = logging.Formatter("%(asctime)s")
    for created in (1_700_000_000.0, 1_700_000_000.9999, 1_700_000_001.25, 1_700_000_000.5):
        record = logging.makeLogRecord({"created": created, "msecs": created % 1 * 1000})
        told = json.loads(JsonFormatter().format(record))["time"]
        assert TextFormatter("%(asctime)s").format(record) == python.format(record)
        assert told[-7:] == f"{python.formatTime(record)[-6:].replace(',', '.')}Z"
