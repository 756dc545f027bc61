"""End-to-end speed of `labelwise train` on the CPU, in turns with that of other checkouts.

    python benchmarks/train.py [--beside CHECKOUT] [--rounds 3] [--photos 240] [--only NAME]

Every run trains a network of NETWORKS from scratch on drawn pictures, with the settings that a user gets: precision,
threads, workers and augmentation are the defaults. Speed is that of the epochs after the first, in which the workers
start. Processor time is that of the whole command, with its imports. Prints a Markdown table.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
# As the preset `pretrained`, without its weights; and the preset `small`.
NETWORKS = {
    "tf_efficientnet_lite0": (
        *("model.backbone=tf_efficientnet_lite0", "model.feature_level=4", "image={height: 192, width: 192}"),
        "epochs=3",
    ),
    "resnet18d": ("epochs=4",),
}


def train(checkout: Path, data: Path, network: str) -> dict[str, float | str]:
    """Returns images per second, processor seconds of the command, and what it computed in, if it says so."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = [sys.executable, "-m", "labelwise", "train", str(data), "--out", str(out), "--preset", "small"]
        for setting in (*NETWORKS[network], "contrastive_epochs=0"):
            command += ["--set", setting]
        before = children_seconds()
        environment = os.environ | {"PYTHONPATH": str(checkout)}
        done = subprocess.run(
            [*command, "--no-report"], cwd=checkout, env=environment, check=True, capture_output=True, text=True
        )
        entries = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
    said = [line for line in done.stdout.splitlines() if line.startswith("Computes in ")]
    return {
        "speed": statistics.mean(entry["images_per_second"] for entry in entries[1:]),
        "cpu": children_seconds() - before,
        "said": said[0].removeprefix("Computes in ").partition(":")[0] if said else "",
    }


def children_seconds() -> float:
    """Returns the processor time of all finished children and theirs, such as the workers of a training."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def print_table(results: dict[tuple[str, str], list[dict[str, float | str]]]) -> None:
    def middle(rounds: list[dict[str, float | str]], key: str) -> float:
        return statistics.median(float(entry[key]) for entry in rounds)

    print("| network | checkout | computes in | images/s | range | of this one | processor seconds |")
    print("|---|---|---|--:|---|--:|--:|")
    for (network, name), rounds in results.items():
        speeds = [float(entry["speed"]) for entry in rounds]
        share = statistics.median(speeds) / middle(results[network, "this one"], "speed")
        said = ", or ".join(sorted({str(entry["said"]) for entry in rounds}))
        numbers = f"{middle(rounds, 'speed'):.1f} | {min(speeds):.1f}–{max(speeds):.1f} | {share:.2f}"
        print(f"| {network} | {name} | {said} | {numbers} | {middle(rounds, 'cpu'):.0f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--beside", action="append", type=Path, default=[], metavar="CHECKOUT")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--photos", type=int, default=240)
    parser.add_argument("--only", choices=NETWORKS, help="measure one network")
    arguments = parser.parse_args()
    checkouts = {"this one": ROOT} | {str(path): path.resolve() for path in arguments.beside}
    networks = [arguments.only] if arguments.only else [*NETWORKS]
    results: dict[tuple[str, str], list[dict[str, float | str]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        draw = ["synth", str(data), "--count", str(arguments.photos), "--size", "256", "--labels", "6"]
        subprocess.run([sys.executable, "-m", "labelwise", *draw], cwd=ROOT, check=True, capture_output=True)
        for number in range(arguments.rounds):
            for network in networks:
                for name in sorted(checkouts, reverse=number % 2 == 1):  # so that none is always the first
                    result = train(checkouts[name], data, network)
                    results.setdefault((network, name), []).append(result)
                    print(number + 1, network, name, result, file=sys.stderr, flush=True)
    print_table(results)


if __name__ == "__main__":
    main()
