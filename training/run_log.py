"""Shows and logs a run: a progress bar, a line per epoch, TensorBoard, and history.jsonl, which it also reads."""

import json
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from training.checkpoint import HISTORY_FILE, explained

TENSORBOARD_FOLDER = "tensorboard"
_IN_LINE = ("loss", "mAP", "LRAP", "CF1", "OF1")
_ROUNDING = 6e-6  # history keeps five decimals


class RunLog:
    """Follows a run of `total` steps, each weighted by its views, from `epoch` on. Use as a context manager.

    Only the main process writes files and, unless `quiet`, shows anything.
    """

    def __init__(self, out: Path, total: int, epoch: int = 0, is_main: bool = True, quiet: bool = False) -> None:
        self._epoch = epoch
        self._history = out / HISTORY_FILE
        self._folder = out / TENSORBOARD_FOLDER
        self._is_main = is_main
        self._mean_ap = "–"
        self._images = 0
        self._started = time.monotonic()
        self._console = Console(soft_wrap=True, quiet=quiet)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[facts]}"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=quiet or not is_main,
        )
        self._task = self._bar.add_task("", total=total, facts="")
        self._board: Any = None

    def __enter__(self) -> "RunLog":
        if self._is_main:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # tensorboard's own imports
                from torch.utils.tensorboard import SummaryWriter
            with explained(self._folder):
                self._board = SummaryWriter(str(self._folder), purge_step=self._epoch + 1)
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
        if self._board is not None:
            self._board.close()

    def begin_epoch(self, title: str, done: int) -> None:
        """`done`: the weighted steps finished before."""
        self._images, self._started = 0, time.monotonic()
        self._bar.update(self._task, description=title, completed=done)

    def step(self, loss: float, images: int, weight: int) -> None:
        """Count one step with `images` photos over all processes."""
        self._images += images
        facts = f"loss {loss:.3f}  mAP {self._mean_ap}  {self.rate():.0f} images/s"
        self._bar.update(self._task, advance=weight, facts=facts)

    def rate(self) -> float:
        """Photos per second since the epoch began or was resumed; two views of a photo count once."""
        return self._images / max(time.monotonic() - self._started, 1e-9)

    def epoch(self, entry: dict[str, Any]) -> None:
        """Log one epoch; `entry` has at least epoch and mAP."""
        if not self._is_main:
            return
        self._mean_ap = f"{entry['mAP']:.3f}"
        entry = {key: round(value, 5) if isinstance(value, float) else value for key, value in entry.items()}
        with explained(self._history), self._history.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry) + "\n")
        for name, value in entry.items():
            if isinstance(value, int | float) and name != "epoch":
                self._board.add_scalar(name, value, entry["epoch"])
        shown = [f"{key} {entry[key]:.4f}" for key in _IN_LINE if key in entry]
        line = "  ".join([f"epoch {entry['epoch']}", *shown, f"{entry['images_per_second']:.0f} images/s"])
        self._console.print(line, highlight=False)


@dataclass(frozen=True)
class History:
    """One entry per epoch, in order."""

    entries: tuple[dict[str, Any], ...]
    unreadable_lines: int = 0

    def series(self, key: str) -> tuple[list[int], list[float]]:
        """Epochs and values of `key`, for the epochs that have it."""
        found = [entry for entry in self.entries if key in entry]
        return [entry["epoch"] for entry in found], [entry[key] for entry in found]

    @property
    def stage_2_start(self) -> int | None:
        """The first epoch of stage 2."""
        return next((entry["epoch"] for entry in self.entries if entry["stage"] == 2), None)

    @property
    def seconds(self) -> float:
        return sum(self.series("seconds")[1])

    def stage_of(self, epoch: int | None) -> int | None:
        return next((entry["stage"] for entry in self.entries if entry["epoch"] == epoch), None)

    def best_epoch(self, metrics: Mapping[str, float]) -> int | None:
        """The saved epoch: the one with these `metrics`, otherwise the one with the highest mAP."""
        for entry in self.entries:
            shared = [(entry[name], value) for name, value in metrics.items() if name in entry]
            if shared and all(abs(logged - kept) <= _ROUNDING for logged, kept in shared):
                return entry["epoch"]
        epochs, values = self.series("mAP")
        return epochs[values.index(max(values))] if values else None


def read_history(run: Path) -> History:
    """A run without a history has no entries. Counts and leaves out a line that a crash cut short."""
    file = run / HISTORY_FILE
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []
    by_epoch: dict[int, dict[str, Any]] = {}  # a run that stopped between log and save logs an epoch twice
    unreadable = 0
    for line in filter(str.strip, lines):
        try:
            entry = json.loads(line)
            by_epoch[entry["epoch"]] = entry
        except json.JSONDecodeError:
            unreadable += 1
    return History(tuple(by_epoch[epoch] for epoch in sorted(by_epoch)), unreadable)
