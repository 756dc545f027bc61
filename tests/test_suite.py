"""The suite gives the same results however it is started."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
_STARTER = """
import signal, subprocess, sys
for number in (signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
if sys.argv[1] == "as-the-suite":
    import tests.conftest
child = "import signal; print(*(signal.getsignal(n) is signal.SIG_IGN for n in (signal.SIGINT, signal.SIGHUP)))"
subprocess.run([sys.executable, "-c", child], check=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="there is no SIGHUP here")
@pytest.mark.parametrize(("starter", "ignored"), [("as-it-is", "True True"), ("as-the-suite", "False False")])
def test_processes_that_tests_start_receive_signals_under_nohup(starter: str, ignored: str):
    command = [sys.executable, "-c", _STARTER, starter]
    assert (
        subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split() == ignored.split()
    )
