"""Compares labelwise with other servers of the same ONNX model: speed, latency, CPU, memory, cold start and overload.

    python -m benchmarks.peers [--model scenes] [--rounds 3] [--seconds 2] [--only labelwise fastapi …]

Each server runs on one core, and the clients on another. All get the same photos, as whole files, and all decode them
with the same code. Each must first give the scores of ONNX Runtime within 0.0001. Then they take turns: in each round
every server is started, loaded by more and more connections, and stopped; the bare loop of batch 8 runs before each.
Every other round goes backwards. A peer that cannot be installed or started is reported, and the rest goes on. Peers
have environments of their own in benchmarks/peers/.environments, which the first run makes in some minutes.

Prints Markdown tables. A run of all servers also writes benchmarks/results/peers.md. Linux only.
"""

import argparse
import datetime
import os
import platform
import signal
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnxruntime as ort

from benchmarks.peers.contestants import CONTESTANTS, Contestant
from benchmarks.peers.environments import NotMeasured
from benchmarks.peers.running import CLIENT_CORE
from benchmarks.peers.subject import ROOT, read_subject
from benchmarks.peers.table import Results, tables
from benchmarks.peers.turns import BareLoop, check_answers, run_bare_loop, take_turn
from benchmarks.process_tree import adopt_orphans
from labelwise.cores import processor

RESULT = ROOT / "benchmarks/results/peers.md"
EXPLANATIONS = (
    "The bare loop decodes and calls session.run, without a server. A share of it is that of the loop of batch 8 right "
    "before the server's own turn: median (min to max). CPU time and memory are those of all processes of a server; "
    "memory is PSS under load. A cold start ends with the first 200. LitServe and MLServer wait up to 5 ms for batches "
    "of up to 8; everything else is as it comes.",
    "Clients resend at once, also after a refusal. A request that still waits counts for p99 with its age if that is "
    "above all latencies. By default labelwise runs the fastest graph of a tagger whose loss in mAP is small, here one "
    "in 8 bits; then it must give that graph's scores. In the other rows all have the fp32 graph only.",
)


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="scenes", help="a bundled tagger")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2, help="of each of the six measurements of a turn")
    keys = [contestant.key for contestant in CONTESTANTS]
    parser.add_argument("--only", nargs="+", choices=keys, default=keys, metavar="SERVER", help=" ".join(keys))
    return parser.parse_args()


class Run:
    """What is measured. A server that fails leaves `results` for `left_out`, with the reason."""

    def __init__(self, model: str, keys: list[str], folder: Path) -> None:
        self._subjects = {any_precision: read_subject(model, folder, any_precision) for any_precision in (False, True)}
        self.results: Results = {one: [] for one in CONTESTANTS if one.key in keys}
        self.bare: dict[int, list[BareLoop]] = {1: [], 8: []}
        self.left_out: dict[Contestant, str] = {}

    def check(self) -> None:
        """Leaves out what cannot be started, and what gives other scores."""
        for contestant in list(self.results):
            with self._leaving_out(contestant):
                check_answers(contestant, self._subjects[contestant.any_precision])
                print(f"{contestant.key}: the expected scores", file=sys.stderr)

    def round(self, number: int, seconds: float) -> None:
        self.bare[1].append(run_bare_loop(self._subjects[False], 1, seconds))
        for contestant in list(self.results)[:: -1 if number % 2 else 1]:  # so that none is always the first
            self.bare[8].append(run_bare_loop(self._subjects[False], 8, seconds))
            with self._leaving_out(contestant):
                bare = self.bare[8][-1]
                turn = take_turn(contestant, self._subjects[contestant.any_precision], bare, seconds)
                self.results[contestant].append(turn)
                rates = {n: round(window.rate, 1) for n, window in turn.windows.items()}
                print(f"round {number + 1}, {contestant.key}: images/s {rates}, bare {bare.rate:.1f}", file=sys.stderr)

    @contextmanager
    def _leaving_out(self, contestant: Contestant) -> Iterator[None]:
        try:
            yield
        except NotMeasured as reason:
            print(f"{contestant.key} is not measured: {reason}", file=sys.stderr)
            del self.results[contestant]
            self.left_out[contestant] = str(reason)


def machine() -> str:
    """Returns the kind of machine in general words."""
    facts = processor()
    vnni = "with" if "avx512_vnni" in facts.get("flags", "") else "without"
    return f"{os.cpu_count()} cores of an {facts.get('model name', platform.machine())} ({vnni} AVX-512 VNNI)"


def heading(arguments: argparse.Namespace) -> str:
    command = "python -m benchmarks.peers" + (f" {' '.join(sys.argv[1:])}" if sys.argv[1:] else "")
    conditions = (
        f"{datetime.date.today()}, {machine()}: one for the server, one for the clients; load average at the start "
        f"{os.getloadavg()[0]:.1f}. Python {platform.python_version()}, ONNX Runtime {ort.__version__}, one thread, "
        f"the tagger `{arguments.model}` and the photographs of tests/assets. Medians of {arguments.rounds} rounds, "
        "latencies of all rounds together. Every server gave the scores of ONNX Runtime within 0.0001."
    )
    paragraphs = [f"`{command}`, {conditions}", *EXPLANATIONS]
    return "\n\n".join(["# labelwise beside other servers", *(textwrap.fill(part, 120) for part in paragraphs)])


def end(number: int, _: object) -> None:
    """Ends this process, and with it the server. `timeout` sends its signal twice; the second must not stop that."""
    signal.signal(number, signal.SIG_IGN)
    sys.exit(128 + number)


def main() -> None:
    arguments = read_arguments()
    text = heading(arguments)
    adopt_orphans()
    signal.signal(signal.SIGTERM, end)
    os.sched_setaffinity(0, {CLIENT_CORE})
    with tempfile.TemporaryDirectory() as folder:
        run = Run(arguments.model, arguments.only, Path(folder))
        run.check()
        for number in range(arguments.rounds):
            run.round(number, arguments.seconds)
    text += "\n\n" + tables(run.bare, run.results, run.left_out) + "\n"
    print(text)
    if len(arguments.only) == len(CONTESTANTS):
        RESULT.write_text(text)


if __name__ == "__main__":
    main()
